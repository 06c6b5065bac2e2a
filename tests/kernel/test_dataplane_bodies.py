"""Large bodies: bytes intact, and kernel memory bounded when somebody does not read."""

from __future__ import annotations

import hashlib
import select
import threading
import time
from pathlib import Path

import pytest

from tests.kernel.world import Client, World, request

BOUND = 64 << 20  # bytes


def kernel_memory() -> int:
    """Bytes that the kernel holds for TCP sockets, messages redirected into them included."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index("mem") + 1]) * 4096
    raise AssertionError("no account of TCP memory")


class Highest:
    """The most that `kernel_memory` grows in the block."""

    def __enter__(self) -> Highest:
        self.bytes = 0
        self._before = kernel_memory()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, kernel_memory() - self._before)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()


def skip(client: Client, end: bytes, least: int) -> int:
    """Read a response of at least that many bytes, until `end` and then nothing; how many there were."""
    buffer, total, tail = bytearray(1 << 20), 0, b""
    while total < least or not tail.endswith(end) or select.select([client.sock], [], [], 0.2)[0]:
        n = client.sock.recv_into(buffer)
        assert n, f"{total} bytes, then the end"
        total += n
        tail = (tail + buffer[max(0, n - 8) : n])[-8:]
    return total


@pytest.mark.parametrize("path", ["/big", "/chunked"])
@pytest.mark.parametrize("size", [1000, 200_000, 262_000, 263_000, 3_000_000, 20_000_000])
def test_a_body_of_any_size_arrives_whole_and_the_connection_goes_on(served: World, path: str, size: int) -> None:
    with served.client():
        client = served.connect()
        for _ in range(2):
            response = client.get(f"{path}/{size}")
            expected = f"s1 {path}/{size} body=0 ".encode().ljust(size, b".")
            assert len(response.body) == size
            assert hashlib.sha256(response.body).digest() == hashlib.sha256(expected).digest()
            assert client.get("/a/x").text == "s1 /a/x body=0 "


@pytest.mark.parametrize("size", [1000, 262_144, 262_145, 5_000_000])
def test_an_upload_of_any_size_arrives_whole_and_the_connection_goes_on(served: World, size: int) -> None:
    with served.client():
        client = served.connect()
        for _ in range(2):
            assert client.post("/a/upload", b"u" * size).text == f"s1 /a/upload body={size} "
            assert client.get("/a/x").text == "s1 /a/x body=0 "


@pytest.mark.parametrize("path", ["/big/1000000000", "/chunked/1000000000"])
def test_a_client_that_does_not_read_a_gigabyte_costs_little_kernel_memory(served: World, path: str) -> None:
    with served.client():
        client = served.connect()
        assert client.get("/a/warm").status == 200
        with Highest() as highest:
            client.send(request(path))
            time.sleep(1.0)
            assert skip(client, b"0\r\n\r\n" if "chunked" in path else b"....", 1_000_000_000) < 1_001_000_000
        assert client.get("/a/after").text == "s1 /a/after body=0 "
    assert highest.bytes < BOUND


def test_many_clients_that_do_not_read_many_answers_cost_little_kernel_memory(served: World) -> None:
    with served.client(), Highest() as highest:
        for _ in range(4):
            client = served.connect()
            client.sock.settimeout(0.3)
            try:
                for _ in range(2000):
                    client.send(request("/big/100000"))
            except TimeoutError:
                pass  # the window is closed, as it should be
    assert highest.bytes < BOUND


def test_a_server_that_does_not_read_an_upload_costs_little_kernel_memory(served: World) -> None:
    with served.client(), Highest() as highest:
        client = served.connect()
        size = 300_000_000
        client.send(request("/stubborn", f"Content-Length: {size}", method="POST"))
        piece = bytes(1 << 20)
        for at in range(0, size, len(piece)):
            client.send(piece[: size - at])
        assert client.read().text == f"s1 /stubborn body={size} "
    assert highest.bytes < BOUND


def test_a_large_answer_leaves_other_connections_alone(served: World) -> None:
    with served.client():
        greedy, modest = served.connect(), served.connect()
        greedy.send(request("/big/50000000"))
        for number in range(200):
            assert modest.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
        assert len(greedy.read().body) == 50_000_000
