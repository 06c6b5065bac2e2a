"""Heads on their way out: header edits, the fields a proxy adds, and bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from http import HTTPStatus

from l7fp.ir import edits as header_edits
from l7fp.ir.model import HeaderEdits
from slowpath.http1 import Framing, Headers, Rejected, RequestHead, ResponseHead

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_IDS_AT_A_TIME = 256


def reason(status: int) -> str:
    """The phrase that goes with `status`."""
    return _REASONS.get(status, "Unknown")


def edited(headers: Headers, edits: Iterable[HeaderEdits]) -> Headers:
    """`headers`, which name no framing, after each of `edits`; what these say of framing or Host is passed over."""
    before = headers
    for edit in edits:
        headers = header_edits.apply(edit, headers)
    if headers is not before and any(name in _FRAMING for name, _ in headers):
        return tuple(pair for pair in headers if pair[0] not in _FRAMING)
    return headers


def encode(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A start line and field lines, without the empty line. Raises `Rejected` (500) for a value that
    would end its line: it can only come from a policy."""
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join(lines) + "\r\n"
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise Rejected(500, "invalid_header_value")
    return text.encode("utf-8", "surrogateescape")


class RequestIds:
    """Random (version 4) UUIDs as bytes, many per system call."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: list[bytes] = []

    def next(self) -> bytes:
        """A new one."""
        if not self._left:
            self._fill()
        return self._left.pop()

    def _fill(self) -> None:
        text = os.urandom(16 * _IDS_AT_A_TIME).hex()
        for at in range(0, len(text), 32):
            t = text[at : at + 32]
            variant = "89ab"[int(t[16], 16) & 3]
            self._left.append(f"{t[:8]}-{t[8:12]}-4{t[13:16]}-{variant}{t[17:20]}-{t[20:]}".encode())


def sanitise(headers: Headers, *, trust: bool) -> Headers:
    """What of a client's headers is believed: nobody outside speaks for l7fp itself, and only a
    trusted client for Envoy or for whom it forwards."""
    distrusted = ("x-l7fp-",) if trust else ("x-l7fp-", "x-envoy-", "x-forwarded-")
    if any(name.startswith(distrusted) for name, _ in headers):
        return tuple(pair for pair in headers if not pair[0].startswith(distrusted))
    return headers


def forwarded(headers: Headers, peer: str, scheme: str = "http") -> Headers:
    """With `peer` appended to x-forwarded-for and x-forwarded-proto set where it is absent."""
    hops = [value for name, value in headers if name == "x-forwarded-for" and value]
    out = [pair for pair in headers if pair[0] != "x-forwarded-for"] if hops else list(headers)
    if peer or hops:
        out.append(("x-forwarded-for", ", ".join([*hops, peer] if peer else hops)))
    if not any(name == "x-forwarded-proto" for name, _ in out):
        out.append(("x-forwarded-proto", scheme))
    return tuple(out)


def request_head(
    head: RequestHead, *, method: str, target: str, authority: str, headers: Headers
) -> tuple[bytes, bool]:
    """The upstream's head up to, without, the empty line; and whether it wants an x-request-id,
    of which the name then is already there."""
    lines = [("host", authority), *headers]
    if head.framing is Framing.LENGTH:
        lines.append(("content-length", str(head.length)))
    elif head.framing is Framing.CHUNKED:
        lines.append(("transfer-encoding", "chunked"))
    if head.upgrade:
        lines += [("connection", "upgrade"), ("upgrade", head.upgrade)]
    data = encode(f"{method} {target} HTTP/1.1", lines)
    if any(name == "x-request-id" for name, _ in headers):
        return data, False
    return data + b"x-request-id: ", True


def response_head(
    head: ResponseHead, framing: Framing, edits: tuple[HeaderEdits, ...], *, http10: bool, close: bool
) -> bytes:
    """The client's head, empty line included. A body whose length is not known is chunked, or, for
    HTTP/1.0, ends with the connection (`close` must be set then)."""
    headers = list(edited(head.headers, edits))
    if framing in (Framing.CHUNKED, Framing.EOF):
        if not http10:
            headers.append(("transfer-encoding", "chunked"))
    elif head.length >= 0 and head.status >= 200 and head.status != 204:
        headers.append(("content-length", str(head.length)))
    if head.status == 101:
        headers += [("connection", "upgrade"), ("upgrade", head.upgrade)]
    elif head.status < 200:
        pass
    elif close:
        headers.append(("connection", "close"))
    elif http10:
        headers.append(("connection", "keep-alive"))
    return encode(f"HTTP/1.1 {head.status} {head.reason}", headers) + b"\r\n"


def reply(status: int, headers: Headers, body: bytes, *, http10: bool, close: bool, is_head: bool) -> bytes:
    """A whole response of the proxy's own."""
    lines = [pair for pair in headers if pair[0] not in _FRAMING]
    if status != 204 and status != 304:
        lines.append(("content-length", str(len(body))))
    if close:
        lines.append(("connection", "close"))
    elif http10:
        lines.append(("connection", "keep-alive"))
    if is_head or status in (204, 304):
        body = b""
    return encode(f"HTTP/1.1 {status} {reason(status)}", lines) + b"\r\n" + body
