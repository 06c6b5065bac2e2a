"""The heads that the kernel may accept, written a second time: whole-text patterns instead of a byte machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from l7fp import abi
from l7fp.ir.model import StringKind, StringMatch
from tests.unit.templates.http1 import FRAMING, Edit, Spec

MAX_HEADERS = 128
_NO_BODY = {b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"}
_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) (/[!-~]*) HTTP/1\.1\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~\x80-\xff]*\r\n")
_FIELD = re.compile(rb"([A-Za-z0-9_-]+): ?([\t -~\x80-\xff]*)\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]*[A-Za-z0-9_-]|\[[0-9A-Fa-f:.]*\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_DIVERT = {name.encode() for name, kind in FRAMING.items() if kind is abi.HeaderKind.DIVERT}


class RefusedError(Exception):
    """Not for the kernel."""


@dataclass(frozen=True)
class Line:
    name: bytes  # lower case
    value: bytes
    raw: bytes  # with CR LF


@dataclass(frozen=True)
class Strict:
    """A parsed head. `method` and `target` are empty in a response, `status` is 0 in a request."""

    first: bytes
    lines: tuple[Line, ...]
    method: bytes = b""
    path: bytes = b""
    query: bytes = b""
    host: bytes = b""
    status: int = 0
    length: int = 0
    chunked: bool = False
    close: bool = False

    @property
    def size(self) -> int:
        return len(self.first) + sum(len(line.raw) for line in self.lines) + 2


def _need(holds: object) -> None:
    if not holds:
        raise RefusedError


def _head(message: bytes, first: re.Pattern[bytes]) -> tuple[re.Match[bytes], tuple[Line, ...]]:
    start = first.match(message)
    _need(start)
    assert start
    at, lines = start.end(), []
    while message[at : at + 2] != b"\r\n":
        found = _FIELD.match(message, at)
        _need(found)
        assert found
        lines.append(Line(found[1].lower(), found[2], found[0]))
        at = found.end()
    _need(at + 2 <= abi.MAX_HEAD and len(lines) <= MAX_HEADERS)
    return start, tuple(lines)


def _only(lines: tuple[Line, ...], name: bytes) -> bytes | None:
    values = [line.value for line in lines if line.name == name]
    _need(len(values) < 2)
    _need(not values or not values[0].startswith((b" ", b"\t")))
    return values[0] if values else None


def _length(lines: tuple[Line, ...]) -> int | None:
    text = _only(lines, b"content-length")
    if text is None:
        return None
    _need(_LENGTH.fullmatch(text) and int(text) < 1 << 53)
    return int(text)


def request(message: bytes, spec: Spec) -> Strict:
    """Raises RefusedError."""
    start, lines = _head(message, _REQUEST_LINE)
    path, mark, query = start[2].partition(b"?")
    _need(not re.search(rb"[^A-Za-z0-9._~!$&'()*+,:@=/-]|//|/\.\.?(?:/|$)", path) and b"#" not in query)
    host = _only(lines, b"host")
    _need(host is not None and _HOST.fullmatch(host))
    assert host is not None
    length = _length(lines)
    _need(not length or start[1] not in _NO_BODY)
    connection = _only(lines, b"connection")
    _need(connection is None or connection.lower() == b"keep-alive")
    _need(not any(line.name in _DIVERT or line.name == b"transfer-encoding" for line in lines))
    for name in {*spec.headers, *spec.edited}:
        value = _only(lines, name.encode())
        if value is not None and spec.headers.get(name):
            _need(re.fullmatch(rb"(?:[ -~]*[!-~])?", value))
    names = [pair.partition(b"=")[0].decode("latin-1") for pair in query.split(b"&")] if mark else []
    _need(all(names.count(name) < 2 for name in spec.queries))
    return Strict(start[0], lines, start[1], path, mark + query, host, 0, length or 0)


def response(message: bytes, spec: Spec, *, is_head: bool) -> Strict:
    """Raises RefusedError."""
    start, lines = _head(message, _STATUS_LINE)
    status = int(start[1])
    length, coding, connection = _length(lines), _only(lines, b"transfer-encoding"), _only(lines, b"connection")
    host = _only(lines, b"host")
    _need(host is None or _HOST.fullmatch(host))
    _need(not any(line.name in _DIVERT for line in lines))
    _need(connection is None or connection.lower() in (b"keep-alive", b"close"))
    _need(coding is None or coding == b"chunked")
    for name in spec.response_edited:
        _only(lines, name.encode())
    empty = is_head or status in (204, 304)
    _need(status >= 200 and (length is None or coding is None))
    _need(empty or length is not None or coding is not None)
    _need(status != 204 or is_head or not (coding or length))
    close = connection is not None and connection.lower() == b"close"
    return Strict(
        start[0],
        lines,
        status=status,
        length=0 if empty else length or 0,
        chunked=coding is not None and not empty,
        close=close,
    )


def _holds(match: StringMatch, value: bytes) -> bool:
    want = match.value.encode()
    if match.kind is StringKind.PREFIX:
        return value.startswith(want)
    assert match.kind is StringKind.EXACT
    return value == want


def _word(matchers: object, value: bytes) -> int:
    assert isinstance(matchers, (list, tuple))
    return 1 | sum(2 << n for n, match in enumerate(matchers) if _holds(match, value))


def bits(parsed: Strict, spec: Spec) -> dict[int, int]:
    """Words that the parser fills in, by slot."""
    out = {int(abi.Bits.METHOD): sum(1 << n for n, m in enumerate(spec.methods) if _holds(m, parsed.method))}
    for name, matchers in spec.headers.items():
        values = [line.value for line in parsed.lines if line.name == name.encode()]
        out[spec.slot(name)] = _word(matchers, values[0]) if values else 0
    pairs = [pair.partition(b"=") for pair in parsed.query[1:].split(b"&")]
    for name, matchers in spec.queries.items():
        values = [value for key, _, value in pairs if key == name.encode()] if parsed.query else []
        out[spec.slot(f"?{name}")] = _word(matchers, values[0]) if values else 0
    return out


def edited(parsed: Strict, edit: Edit | None) -> bytes:
    """The head after an edit (None: only what a response always loses)."""
    edit = edit or Edit()
    remove = {name.encode() for name in edit.remove} | ({b"connection"} if parsed.close else set())
    lines = []
    for line in parsed.lines:
        if line.name in remove:
            continue
        if line.name == b"host" and edit.host and parsed.method:
            lines.append(line.raw[: len(line.raw) - 2 - len(line.value)] + edit.host + b"\r\n")
        else:
            lines.append(line.raw)
    first = parsed.first
    if parsed.method and edit.path_op is not abi.PathOp.KEEP:
        rest = parsed.path[edit.strip :] if edit.path_op is abi.PathOp.REPLACE_PREFIX else b""
        first = parsed.method + b" " + edit.path + rest + parsed.query + b" HTTP/1.1\r\n"
    return first + b"".join(lines) + edit.insert + b"\r\n"


_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;([\t -~\x80-\xff]{0,1024}))?\r\n")
_TRAILERS = re.compile(rb"((?:[!-9;-~\x80-\xff][\t -~\x80-\xff]*\r\n)*)\r\n")
MAX_TRAILERS = 4096


def chunked_end(data: bytes) -> int | None:
    """Where the chunked body at the start of `data` ends; None: it is broken or goes on."""
    at = 0
    while line := _SIZE_LINE.match(data, at):
        at = line.end()
        size = int(line[1], 16)
        if not size:
            end = _TRAILERS.match(data, at)
            return end.end() if end and len(end[1].replace(b"\r\n", b"")) <= MAX_TRAILERS else None
        if data[at + size : at + size + 2] != b"\r\n":
            return None
        at += size + 2
    return None
