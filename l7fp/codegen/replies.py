"""Answers that the kernel makes: denials, not found, redirects, direct responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l7fp import abi
from l7fp.codegen.automaton import encode
from l7fp.codegen.edits import UnplannableError, check_plannable, merge
from l7fp.codegen.tables import Tables
from l7fp.ir.interp import reply_headers
from l7fp.ir.model import HeaderEdits

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

_LOCATION = "\0location"
_NO_CONTENT = (204, 304)


def answer(
    tables: Tables, status: int, *, body: str = "", location: HeaderValue = (), edits: Sequence[HeaderEdits] = ()
) -> int:
    """Index in `replies` of the answer that the interpreter would give. Raises UnplannableError."""
    if not 200 <= status <= 599:
        raise UnplannableError(f"the kernel makes no answer of status {status}")
    check_plannable(merge(edits))
    own = (("location", _LOCATION),) if location else ()
    headers = [(name, location if value == _LOCATION else (value,)) for name, value in reply_headers(own, body, *edits)]
    if status in _NO_CONTENT:
        body = ""
    else:
        headers.append(("content-length", (str(len(encode(body))),)))
    if all(name != "server" for name, _ in headers):
        headers.append(("server", ("l7fp",)))
    return _write(tables, status, headers, body)


def _write(tables: Tables, status: int, headers: Sequence[tuple[str, HeaderValue]], body: str) -> int:
    pieces: list[bytes | Part] = [encode(f"HTTP/1.1 {status} {phrase(status)}\r\n")]

    def put(item: str | Part) -> None:
        last = pieces[-1]
        if isinstance(item, str) and isinstance(last, bytes):
            pieces[-1] = last + encode(item)
        else:
            pieces.append(encode(item) if isinstance(item, str) else item)

    for name, value in headers:
        for item in (f"{name}: ", *value, "\r\n"):
            put(item)
    put("\r\n")
    head_count = len(pieces)
    if body:
        pieces.append(encode(body))
    # what a request adds to the constant part is checked when it happens
    if sum(len(p) for p in pieces if isinstance(p, bytes)) > abi.MAX_REPLY:
        raise UnplannableError(f"the answer is longer than {abi.MAX_REPLY} bytes")
    return tables.reply(status, [_part(tables, piece) for piece in pieces], head_count)


def _part(tables: Tables, piece: bytes | Part) -> tuple[int, int, int]:
    if isinstance(piece, Part):
        return piece.kind, piece.off, 0
    return abi.PartKind.CONST, *tables.text(piece)
