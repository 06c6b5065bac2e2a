"""Message bodies: strict decoding of chunked ones, and their encoding. No sockets."""

from __future__ import annotations

import re

from slowpath.http1 import Framing, Rejected, RequestHead

_MAX_LINE = 4096  # a chunk-size line with its extensions
_MAX_EXTENSIONS = 16384  # of all chunks of one body
_MAX_TRAILERS = 16384
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"((?:;"
    + _TOKEN
    + rb"(?:=(?:"
    + _TOKEN
    + rb'|"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"))?+)*+)'
)
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*+")
_FORBIDDEN_TRAILERS = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"connection", b"trailer", b"te", b"upgrade", b"expect"}
)

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data`, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedDecoder:
    """Takes a chunked body apart as RFC 9112 §7.1 has it, without its tolerances.

    `feed` returns the payload found so far; `done` tells that the body is over, and then `rest`
    holds what followed it. Trailer fields are checked
    and dropped; one that means framing or routing makes the message unacceptable.
    """

    __slots__ = ("_extensions", "_line", "_state", "_trailers", "done", "left", "rest")

    def __init__(self) -> None:
        self._state = 0  # 0 size line, 1 data, 2 CRLF after data, 3 trailer lines
        self._line = b""
        self._extensions = 0
        self._trailers = 0
        self.left = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Payload bytes in `data`. Raises `Rejected` (400)."""
        if self._line:
            data = self._line + data
            self._line = b""
        out = []
        at, end = 0, len(data)
        while at < end:
            if self._state == 1:
                piece = data[at : at + self.left] if at or self.left < end else data
                out.append(piece)
                at += len(piece)
                self.left -= len(piece)
                if self.left == 0:
                    self._state = 2
                continue
            if self._state == 2:
                if data[at : at + 2] != b"\r\n":
                    if data[at:] == b"\r":
                        self._line = b"\r"
                        break
                    raise Rejected(400, "invalid_chunk_end")
                at += 2
                self._state = 0
                continue
            stop = data.find(b"\n", at, at + _MAX_LINE)
            if stop < 0:
                if end - at >= _MAX_LINE:
                    raise Rejected(400, "chunk_line_too_long")
                self._line = data[at:]
                break
            if stop == at or data[stop - 1] != 13:
                raise Rejected(400, "invalid_chunk_line_end")
            line = data[at : stop - 1]
            at = stop + 1
            if self._state == 0:
                self._size(line)
            elif not line:
                self.done = True
                self.rest = data[at:]
                break
            else:
                self._trailer(line)
        return out[0] if len(out) == 1 else b"".join(out)

    def _size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise Rejected(400, "invalid_chunk_size")
        self._extensions += len(found[2])
        if self._extensions > _MAX_EXTENSIONS:
            raise Rejected(400, "chunk_extensions_too_long")
        self.left = int(found[1], 16)
        self._state = 1 if self.left else 3

    def _trailer(self, line: bytes) -> None:
        found = _TRAILER.fullmatch(line)
        self._trailers += len(line)
        if found is None or self._trailers > _MAX_TRAILERS or found[1].lower() in _FORBIDDEN_TRAILERS:
            raise Rejected(400, "invalid_trailer")


class RequestBody:
    """A request's body on its way in. `left` is what remains of one with a length."""

    __slots__ = ("_decoder", "left")

    def __init__(self, head: RequestHead) -> None:
        self.left = head.length
        self._decoder = ChunkedDecoder() if head.framing is Framing.CHUNKED else None

    def take(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Payload in `data`, what follows the body, and whether the body is over. Raises `Rejected`."""
        decoder = self._decoder
        if decoder is not None:
            return decoder.feed(data), decoder.rest, decoder.done
        left = self.left
        rest = b""
        if len(data) > left:
            rest = data[left:]
            data = data[:left]
        self.left = left - len(data)
        return data, rest, self.left == 0
