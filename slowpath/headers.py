"""Heads on their way out: header edits, the fields a proxy adds, and bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from http import HTTPStatus

from l7fp.ir import edits as header_edits
from l7fp.ir.model import HeaderEdits
from slowpath.http1 import Framing, Headers, Rejected, RequestHead, ResponseHead

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})
_LINE_END = re.compile(r"[\r\n\x00]")
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


def check(edits: Iterable[HeaderEdits]) -> None:
    """Raises `Rejected` (500) for an edit whose text would end its line: what comes from messages can't."""
    for edit in edits:
        if _LINE_END.search("".join(name + value for name, value in (*edit.set, *edit.add))):
            raise Rejected(500, "invalid_header_edit")


def _encode(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A start line and field lines, without the empty line."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return (first + "".join(lines)).encode("utf-8", "surrogateescape")


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


_OURS = "x-l7fp-"
_TRUSTED = (_OURS, "x-envoy-", "x-forwarded-")


def sanitise(headers: Headers, *, trust: bool) -> Headers:
    """What of a client's headers is believed: nobody outside speaks for l7fp itself, and only a
    trusted client for Envoy or for whom it forwards."""
    distrusted = _OURS if trust else _TRUSTED
    for name, _ in headers:
        if name.startswith(distrusted):
            return tuple(pair for pair in headers if not pair[0].startswith(distrusted))
    return headers


def request_head(
    head: RequestHead, *, method: str, target: str, authority: str, headers: Headers, peer: str
) -> tuple[bytes, bool]:
    """The upstream's head up to, without, the empty line; and whether it wants an x-request-id,
    of which the name then is already there.

    `peer` is appended to x-forwarded-for; x-forwarded-proto is set where it is absent.
    """
    lines = []
    hops = ""
    wants_proto = wants_id = True
    for pair in headers:
        name = pair[0]
        if name[:2] == "x-":
            if name == "x-forwarded-for":
                hops = f"{hops}{pair[1]}, " if pair[1] else hops
                continue
            if name == "x-forwarded-proto":
                wants_proto = False
            elif name == "x-request-id":
                wants_id = False
        lines.append(pair)
    hops = hops + peer if peer else hops[:-2]
    if hops:
        lines.append(("x-forwarded-for", hops))
    if wants_proto:
        lines.append(("x-forwarded-proto", "http"))
    if head.framing is Framing.LENGTH:
        lines.append(("content-length", str(head.length)))
    elif head.framing is Framing.CHUNKED:
        lines.append(("transfer-encoding", "chunked"))
    if head.upgrade:
        lines += [("connection", "upgrade"), ("upgrade", head.upgrade)]
    data = _encode(f"{method} {target} HTTP/1.1\r\nhost: {authority}\r\n", lines)
    return (data + b"x-request-id: ", True) if wants_id else (data, False)


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
    return _encode(f"HTTP/1.1 {head.status} {head.reason}\r\n", headers) + b"\r\n"


def reply(status: int, headers: Headers, body: bytes, *, http10: bool, close: bool, is_head: bool) -> bytes:
    """A whole response of the proxy's own."""
    lines = [pair for pair in headers if pair[0] not in _FRAMING]
    if _LINE_END.search("".join(name + value for name, value in lines)):
        raise Rejected(500, "invalid_header_edit")
    if status != 204 and status != 304:
        lines.append(("content-length", str(len(body))))
    if close:
        lines.append(("connection", "close"))
    elif http10:
        lines.append(("connection", "keep-alive"))
    if is_head or status in (204, 304):
        body = b""
    return _encode(f"HTTP/1.1 {status} {reason(status)}\r\n", lines) + b"\r\n" + body
