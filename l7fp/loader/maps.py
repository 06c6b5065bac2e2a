"""Maps as typed views. A view borrows its fd: `close` ends the view, the fd stays its owner's.

`MmapView` is for the words that agent and kernel share: one C-level index per access, no system call.
Buffers are reused between calls, so a view belongs to one thread.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Generic, TypeVar

from l7fp import abi
from l7fp.loader import sys
from l7fp.loader.codecs import Codec
from l7fp.loader.sys import Cmd, bpf

K = TypeVar("K")
V = TypeVar("V")

_BATCH = 4096


class _Elem(ctypes.Structure):
    """`union bpf_attr` of the element commands."""

    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class HashView(Generic[K, V]):
    """HASH, LRU_HASH or LPM_TRIE as a mapping."""

    def __init__(self, fd: int, key: Codec[K], value: Codec[V]) -> None:
        self.fd, self.key, self.value = fd, key, value
        self._key = ctypes.create_string_buffer(key.size)
        self._value = ctypes.create_string_buffer(value.size)
        self._attr = _Elem(map_fd=fd, key=ctypes.addressof(self._key), value=ctypes.addressof(self._value))
        self._key_attr = _Elem(map_fd=fd, key=ctypes.addressof(self._key))

    def get(self, key: K) -> V | None:
        """The value, None when there is none."""
        self._key.raw = self.key.pack(key)
        try:
            bpf(Cmd.MAP_LOOKUP_ELEM, self._attr)
        except FileNotFoundError:
            return None
        return self.value.unpack(self._value.raw)

    def set(self, key: K, value: V) -> None:
        """Create or replace."""
        self._key.raw = self.key.pack(key)
        self._value.raw = self.value.pack(value)
        bpf(Cmd.MAP_UPDATE_ELEM, self._attr)

    def delete(self, key: K) -> bool:
        """False when it was not there."""
        self._key.raw = self.key.pack(key)
        try:
            bpf(Cmd.MAP_DELETE_ELEM, self._key_attr)
        except FileNotFoundError:
            return False
        return True

    def update(self, items: Mapping[K, V]) -> None:
        """Create or replace many; some are stored when it fails."""
        pairs = [(self.key.pack(k), self.value.pack(v)) for k, v in items.items()]
        for at in range(0, len(pairs), _BATCH):
            part = pairs[at : at + _BATCH]
            sys.map_update_batch(self.fd, b"".join(k for k, _ in part), b"".join(v for _, v in part), len(part))

    def items(self) -> dict[K, V]:
        """All of it, not as of one moment."""
        out = {}
        for raw in dict.fromkeys(sys.map_keys(self.fd, self.key.size)):
            value = sys.map_lookup(self.fd, raw, self.value.size)
            if value is not None:
                out[self.key.unpack(raw)] = self.value.unpack(value)
        return out

    def close(self) -> None:
        """Nothing to free."""


class StorageView(HashView[int, V]):
    """SK_STORAGE from user space: the key is a socket's fd."""


class ArrayView(Generic[V]):
    """ARRAY by index."""

    def __init__(self, fd: int, value: Codec[V], length: int) -> None:
        self.fd, self.value, self.length = fd, value, length

    def __len__(self) -> int:
        return self.length

    def get(self, index: int) -> V:
        """Raises `IndexError` out of range."""
        raw = sys.map_lookup(self.fd, struct.pack("<I", index), self.value.size)
        if raw is None:
            raise IndexError(index)
        return self.value.unpack(raw)

    def set(self, index: int, value: V) -> None:
        """Raises `OSError` E2BIG out of range."""
        sys.map_update(self.fd, struct.pack("<I", index), self.value.pack(value))

    def fill(self, values: Iterable[bytes], first: int = 0) -> None:
        """Store packed values from index `first` on, in as few calls as possible."""
        fill_array(self.fd, list(values), first)

    def close(self) -> None:
        """Nothing to free."""


def fill_array(fd: int, values: list[bytes], first: int = 0) -> None:
    """Store `values`, equally long, at indexes `first`, `first` + 1 ..."""
    for at in range(0, len(values), _BATCH):
        part = values[at : at + _BATCH]
        keys = struct.pack(f"<{len(part)}I", *range(first + at, first + at + len(part)))
        sys.map_update_batch(fd, keys, b"".join(part), len(part))


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map keeps for each key."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().replace(",", "-").rsplit("-", 1)[-1]
    return int(last) + 1


class PerCpuView:
    """PERCPU_ARRAY of u64, summed over the CPUs."""

    def __init__(self, fd: int, length: int) -> None:
        self.fd, self.length = fd, length

    def sums(self) -> list[int]:
        """One total per index."""
        cpus = possible_cpus()
        _, raw = sys.map_lookup_batch(self.fd, 4, 8 * cpus, self.length)
        words = struct.unpack(f"<{len(raw) // 8}Q", raw)
        return [sum(words[at : at + cpus]) for at in range(0, len(words), cpus)]

    def close(self) -> None:
        """Nothing to free."""


class QueueView:
    """QUEUE (first in, first out) or STACK (last in, first out) of u32."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._value = ctypes.c_uint32()
        self._attr = _Elem(map_fd=fd, value=ctypes.addressof(self._value))

    def push(self, value: int) -> None:
        """Raises `OSError` E2BIG when it is full."""
        self._value.value = value
        bpf(Cmd.MAP_UPDATE_ELEM, self._attr)

    def pop(self) -> int | None:
        """The next value, None when it is empty."""
        try:
            bpf(Cmd.MAP_LOOKUP_AND_DELETE_ELEM, self._attr)
        except FileNotFoundError:
            return None
        return int(self._value.value)

    def close(self) -> None:
        """Nothing to free."""


class MmapView:
    """A mmapable ARRAY of `struct` records.

    `view["passed"]` is a memoryview with one item per record: `view["passed"][7] += 10`. Take it once and keep it;
    item access is one indexed load or store of the field's own width. Fields have one writer each (see
    `l7fp.abi`); those that several write atomically must be changed by the control program alone.
    """

    def __init__(self, fd: int, layout: abi.Struct, length: int) -> None:
        stride = -(-layout.size // 8) * 8  # the kernel rounds elements up to 8 bytes
        pages = -(-stride * length // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd, self.layout, self.length, self.stride = fd, layout, length, stride
        self._memory = mmap.mmap(fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._whole = memoryview(self._memory)
        self._words = {8: self._whole.cast("Q"), 4: self._whole.cast("I")}
        self._fields: dict[str, memoryview] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, name: str) -> memoryview:
        """The column of a u32 or u64 field; raises `KeyError` for any other name."""
        found = self._fields.get(name)
        if found is not None:
            return found
        width = next((8 if f.type == "u64" else 4 for f in self.layout.fields if f.name == name), 0)
        offset = self.layout.offset(name)
        end = offset + self.stride * self.length
        column = self._words[width][offset // width : end // width : self.stride // width]
        self._fields[name] = column
        return column

    def record(self, index: int) -> dict[str, int | tuple[int, ...]]:
        """All fields of one record, each read once, not as of one moment."""
        at = index * self.stride
        return self.layout.unpack(self._whole[at : at + self.layout.size])

    def clear(self, index: int) -> None:
        """Zero a record. Only for one that nobody else uses now."""
        at = index * self.stride
        self._whole[at : at + self.stride] = bytes(self.stride)

    def close(self) -> None:
        """Unmap; columns taken from it raise `ValueError` from now on."""
        for view in (*self._fields.values(), *self._words.values(), self._whole):
            view.release()
        self._fields.clear()
        self._memory.close()


class PoolsView:
    """ARRAY_OF_MAPS of STACKs: the idle slots of each endpoint."""

    def __init__(self, fd: int, depth: int = abi.MAX_POOL) -> None:
        self.fd, self.depth = fd, depth
        self._open: dict[int, QueueView] = {}

    def create(self, indexes: Sequence[int]) -> None:
        """Give each index an empty stack, in place of any it had. One call for many: each waits for a grace period."""
        made: dict[int, int] = {}
        try:
            for index in indexes:
                made[index] = sys.map_create(
                    sys.MapType.STACK, key_size=0, value_size=4, max_entries=self.depth, name=f"pool_{index}"
                )
            count = len(made)
            if made:
                keys, values = struct.pack(f"<{count}I", *made), struct.pack(f"<{count}I", *made.values())
                sys.map_update_batch(self.fd, keys, values, count)
        except BaseException:
            for fd in made.values():
                os.close(fd)
            raise
        for index, fd in made.items():
            self._forget(index)
            self._open[index] = QueueView(fd)

    def remove(self, index: int) -> bool:
        """Free the stack of `index`; False when there was none."""
        self._forget(index)
        return sys.map_delete(self.fd, struct.pack("<I", index))

    def stack(self, index: int) -> QueueView | None:
        """The stack of `index`, None when there is none. Its fd is kept open for the next call."""
        found = self._open.get(index)
        if found is None:
            raw = sys.map_lookup(self.fd, struct.pack("<I", index), 4)
            fd = None if raw is None else sys.open_id(sys.Kind.MAP, struct.unpack("<I", raw)[0])
            if fd is None:
                return None
            found = self._open[index] = QueueView(fd)
        return found

    def _forget(self, index: int) -> None:
        old = self._open.pop(index, None)
        if old:
            os.close(old.fd)

    def close(self) -> None:
        """Close the stacks."""
        for index in list(self._open):
            self._forget(index)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in pieces of `size` bytes."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
