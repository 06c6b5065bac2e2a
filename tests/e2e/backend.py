"""A raw-socket HTTP/1.1 server for tests: every connection is handled by a plain function on a thread.

    with Backend(handler) as backend: ... backend.port ... backend.requests

A handler gets a `Conn`, reads with `read_request` and writes whatever bytes it likes. Exceptions that
a lost connection causes end the handler quietly.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType


@dataclass(slots=True)
class Seen:
    """A request as it arrived. Header names in lower case, in order."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    raw: bytes = b""

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.headers if n == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


class Gone(Exception):
    """The peer closed."""


@dataclass(slots=True)
class Conn:
    """One accepted connection. `number` counts connections from 0."""

    sock: socket.socket
    backend: Backend
    number: int
    buffer: bytes = b""

    def fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Gone
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

    def read_head(self) -> Seen:
        raw = self.until(b"\r\n\r\n")
        line, *fields = raw[:-4].decode("latin-1").split("\r\n")
        headers = [(n.lower(), v.strip(" ")) for n, _, v in (f.partition(":") for f in fields)]
        seen = Seen(line, headers, raw=raw)
        self.backend.requests.append(seen)
        return seen

    def read_body(self, seen: Seen) -> bytes:
        if seen.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                seen.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.until(b"\r\n") == b"\r\n"
        elif length := int(seen.get("content-length") or 0):
            seen.body = self.exactly(length)
        return seen.body

    def read_request(self) -> Seen:
        seen = self.read_head()
        self.read_body(seen)
        return seen

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def respond(self, body: bytes = b"", status: int = 200, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Handler = Callable[[Conn], None]


def echo(conn: Conn) -> None:
    """Answers every request with a JSON description of it."""
    while True:
        seen = conn.read_request()
        body = json.dumps(
            {"line": seen.line, "headers": seen.headers, "body": seen.body.decode("latin-1"), "conn": conn.number}
        ).encode()
        if seen.method == "HEAD":
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        else:
            conn.respond(body)


@dataclass
class Backend:
    """Listens on `port` (0: any) from `start` to `stop`; may be started again on the same port."""

    handler: Handler = echo
    address: str = "127.0.0.1"
    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    accepted: int = 0

    def start(self) -> Backend:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, self.port), family=family, backlog=512)
        self.port = self._listener.getsockname()[1]
        self._conns: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(20)
            conn = Conn(sock, self, self.accepted)
            self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            with self._lock:
                self._conns.add(sock)
                self._threads.append(thread)
            thread.start()

    def _serve(self, conn: Conn) -> None:
        try:
            self.handler(conn)
        except (Gone, OSError):
            pass
        finally:
            with self._lock:
                self._conns.discard(conn.sock)
            conn.sock.close()

    def stop(self, *, reset: bool = False) -> None:
        """Stop listening and cut every connection."""
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        with self._lock:
            conns = list(self._conns)
        for sock in conns:
            try:
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Backend:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
