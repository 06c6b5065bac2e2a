"""The kernel's event ring, read in place.

A record is an 8-byte header (length, with a busy and a discarded bit) and the payload, padded to 8. The data is
mapped twice in a row, so that a record never wraps. The consumer's position is ours to write, the producer's is not.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from l7fp import abi
from l7fp.loader import sys

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8


class Event(NamedTuple):
    """`struct event` of `l7fp.abi`, in its order."""

    time_ns: int
    latency_ns: int
    bytes: int
    type: int
    conn: int
    slot: int
    rule: int
    version: int
    endpoint: int
    status: int
    reason: int


_LAYOUT = abi.BY_NAME["event"]
_UNPACK = struct.Struct(_LAYOUT.format)
assert tuple(f.name for f in _LAYOUT.fields) == Event._fields


class RingBuffer:
    """The one consumer of a BPF ring buffer. `fileno()` is readable in epoll while there are records."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        page = mmap.PAGESIZE
        self._size = sys.map_info(fd).max_entries
        self._consumer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._pages = mmap.mmap(fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._whole = memoryview(self._pages)
        self._producer = self._whole[:page].cast("Q")
        self._data = self._whole[page:]
        self._headers = self._data.cast("I")

    def fileno(self) -> int:
        """The map's fd, for epoll."""
        return self.fd

    def read(self, limit: int = 4096) -> list[Event]:
        """Up to `limit` records, oldest first; a record still being written ends the batch."""
        mask, data, headers = self._size - 1, self._data, self._headers
        position, end = self._consumer[0], self._producer[0]
        out: list[Event] = []
        while position < end and len(out) < limit:
            at = position & mask
            header = headers[at >> 2]
            if header & _BUSY:
                break
            length = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED and length >= _UNPACK.size:
                out.append(Event._make(_UNPACK.unpack_from(data, at + _HEADER)))
            position += (_HEADER + length + 7) & ~7
        self._consumer[0] = position
        return out

    def close(self) -> None:
        """Unmap."""
        for view in (self._headers, self._data, self._producer, self._whole, self._consumer):
            view.release()
        self._consumer_page.close()
        self._pages.close()
