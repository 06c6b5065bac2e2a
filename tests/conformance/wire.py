"""HTTP/1.1 messages as bytes, read just well enough for the corpus."""

from __future__ import annotations

import socket
from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """`words`: the first line's, three of them. Header names in lower case; text keeps odd bytes as surrogates."""

    words: tuple[str, str, str]
    headers: Headers
    body: bytes

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def without(self, *names: str) -> Headers:
        """The headers but these."""
        return tuple(item for item in self.headers if item[0] not in names)


def parse(data: bytes) -> Message:
    """A whole message."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    one, two, three = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return Message((one, two, three), tuple((name.lower(), value.strip(" ")) for name, _, value in pairs), body)


def head_length(data: bytes) -> int:
    """Of a message's head with its empty line; 0 if it is not all there."""
    return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0


def with_header(raw: bytes, name: str, value: str) -> bytes:
    """The head with one more header, after the others."""
    return raw.removesuffix(b"\r\n") + f"{name}: {value}\r\n\r\n".encode()


def ask(sock: socket.socket, raw: bytes) -> Message:
    """Send a head and read the one response, whose length must be told. EOFError if it doesn't come."""
    sock.settimeout(10)
    sock.sendall(raw)
    data = b""
    while not (size := head_length(data)):
        data += _more(sock, data)
    length = int(parse(data).get("content-length") or 0)
    while len(data) < size + length:
        data += _more(sock, data)
    return parse(data)


def _more(sock: socket.socket, so_far: bytes) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError(f"the response ends after {so_far!r}")
    return data
