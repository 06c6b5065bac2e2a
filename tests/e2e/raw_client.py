"""A raw-socket HTTP/1.1 client for tests: it sends bytes as given and reads responses strictly."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(slots=True)
class Response:
    """A final response; `chunked` tells how its body came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    chunked: bool = False
    ended_by_close: bool = False

    def get(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n == name), None)

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.headers if n == name]

    def json(self) -> Any:
        return json.loads(self.body)


class Closed(Exception):
    """The connection ended where more was needed."""


class Client:
    """One connection."""

    def __init__(self, port: int, address: str = "127.0.0.1", timeout: float = 10.0) -> None:
        self.sock = socket.create_connection((address, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.informational: list[int] = []

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Closed(self.buffer)
        self.buffer += data

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self.fill()
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    def exactly(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self.fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        line, *fields = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        assert line.startswith("HTTP/1.1 "), line
        return int(line.split(" ")[1]), [(n, v.strip(" ")) for n, _, v in (f.partition(":") for f in fields)]

    def response(self, method: str = "GET") -> Response:
        """The next final response; 1xx before it are noted in `informational`."""
        status, headers = self.head()
        while status < 200:
            self.informational.append(status)
            if status == 101:
                return Response(status, headers, b"")
            status, headers = self.head()
        out = Response(status, headers, b"")
        length = out.get("content-length")
        if method == "HEAD" or status in (204, 304):
            return out
        if out.get("transfer-encoding") == "chunked":
            assert length is None
            out.chunked = True
            while size := int(self.until(b"\r\n"), 16):
                out.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.until(b"\r\n") == b"\r\n"
        elif length is not None:
            out.body = self.exactly(int(length))
        else:
            out.body = self.rest()
            out.ended_by_close = True
        return out

    def rest(self) -> bytes:
        """Everything until the connection ends (a reset counts as an end)."""
        try:
            while True:
                self.fill()
        except (Closed, ConnectionResetError):
            data, self.buffer = self.buffer, b""
            return data

    def closed(self) -> bool:
        """True once the peer has ended the connection without sending more; waits for it."""
        return self.rest() == b""

    def reset(self) -> bool:
        """True if the connection ends by a reset."""
        try:
            while True:
                self.fill()
        except ConnectionResetError:
            return True
        except Closed:
            return False

    def quiet(self, seconds: float = 0.1) -> bool:
        """True if nothing comes for a while."""
        self.sock.settimeout(seconds)
        try:
            self.fill()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        return False

    def get(self, target: str = "/", *headers: str, host: str = "a.test") -> Response:
        self.send("\r\n".join([f"GET {target} HTTP/1.1", f"host: {host}", *headers, "", ""]).encode("latin-1"))
        return self.response()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
