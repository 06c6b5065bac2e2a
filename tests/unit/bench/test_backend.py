"""The benchmark's server answers what it is asked, however the bytes arrive."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from bench import backend
from bench.processes import free_port, stop


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    chosen = free_port()
    process = backend.start("127.0.0.1", chosen, "web")
    yield chosen
    stop([process])


def _read_answer(sock: socket.socket, *, body: bool = True) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(head.rpartition(b"content-length: ")[2]) if body else 0
    while len(rest) < length:
        rest += sock.recv(65536)
    return head, rest


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 5 << 20])
def test_body_has_the_size_that_was_asked_for(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"GET /bytes/%d HTTP/1.1\r\nhost: a\r\n\r\n" % size)
        head, body = _read_answer(sock)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"x-backend: web" in head
        assert len(body) == size


def test_request_body_in_pieces_is_dropped_and_the_connection_goes_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 200000\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n" * 100)
        _read_answer(sock)
        sock.sendall(b"x" * (200_000 - 1800))
        sock.sendall(b"GET /bytes/7 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert len(_read_answer(sock)[1]) == 7


def test_head_has_a_length_and_no_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"HEAD /bytes/9 HTTP/1.1\r\nhost: a\r\n\r\n")
        head, rest = _read_answer(sock, body=False)
        assert b"content-length: 9" in head
        sock.sendall(b"GET /bytes/2 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert rest == b""
        assert _read_answer(sock)[1] == b"xx"


def test_a_port_in_use_is_told(port: int) -> None:
    done = subprocess.run([backend.build(), "127.0.0.1", str(port), "other"], capture_output=True, text=True, timeout=5)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
