"""Answers that the kernel makes: denials, not found, redirects, direct responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l7fp import abi
from l7fp.codegen.automaton import encode
from l7fp.codegen.edits import UnplannableError
from l7fp.codegen.tables import Tables

DENIED_BODY = "RBAC: access denied"

_PHRASES = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    418: "I'm a teapot",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def phrase(status: int) -> str:
    """Reason phrase; the client must not care (RFC 9112 §4)."""
    return _PHRASES.get(status, "Unknown")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a header value that is copied from the request."""

    kind: abi.PartKind
    off: int = 0


HeaderValue = tuple[str | Part, ...]


def reply(tables: Tables, status: int, headers: Sequence[tuple[str, HeaderValue]], body: str = "") -> int:
    """Index in `replies` of this answer, its headers as given. Raises UnplannableError where the constant part
    alone is too long; what a request adds to it is checked when it happens."""
    head: list[str | Part] = [f"HTTP/1.1 {status} {phrase(status)}\r\n"]
    for name, value in headers:
        head += [f"{name}: ", *value, "\r\n"]
    head.append("\r\n")
    pieces: list[bytes | Part] = []
    for item in head:
        if isinstance(item, Part):
            pieces.append(item)
        elif pieces and isinstance(pieces[-1], bytes):
            pieces[-1] += encode(item)
        else:
            pieces.append(encode(item))
    head_count = len(pieces)
    if body:
        pieces.append(encode(body))
    constant = sum(len(p) for p in pieces if isinstance(p, bytes))
    if constant > abi.MAX_REPLY:
        raise UnplannableError(f"the answer is longer than {abi.MAX_REPLY} bytes")
    first = len(tables.rows["parts"])
    for piece in pieces:
        if isinstance(piece, bytes):
            off, length = tables.text(piece)
            tables.add("parts", kind=abi.PartKind.CONST, off=off, len=length)
        else:
            tables.add("parts", kind=piece.kind, off=piece.off)
    return tables.add("replies", first=first, count=len(pieces), head_count=head_count, status=status)
