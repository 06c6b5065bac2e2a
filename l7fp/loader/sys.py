"""The bpf(2) system call by ctypes: maps, programs, links, pins and their ids.

Every function raises `OSError` with the kernel's errno. File descriptors are plain ints, close-on-exec, owned by the
caller. Layouts are those of `union bpf_attr` in <linux/bpf.h>; only fields that kernels since 6.1 know are written.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_NUMBER = _SYSCALLS.get(platform.machine(), 280)

# PyDLL keeps the GIL: most calls take about a microsecond, so releasing it would cost more than it frees. Those that
# may wait for the kernel's grace periods go through CDLL, which releases it.
_SYSCALL = ctypes.PyDLL(None, use_errno=True).syscall
_SYSCALL.restype = ctypes.c_long
_WAITING = ctypes.CDLL(None, use_errno=True).syscall
_WAITING.restype = ctypes.c_long


class Cmd(IntEnum):
    """`enum bpf_cmd`."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    LINK_DETACH = 34


class MapType(IntEnum):
    """`enum bpf_map_type`, the kinds used here."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    SOCKHASH = 18
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    RINGBUF = 27


class ProgType(IntEnum):
    """`enum bpf_prog_type`, the kinds used here."""

    SOCK_OPS = 13
    SK_MSG = 16
    CGROUP_SOCK_ADDR = 18
    CGROUP_SOCKOPT = 25
    SK_LOOKUP = 30
    SYSCALL = 31


class AttachType(IntEnum):
    """`enum bpf_attach_type`, the kinds used here."""

    CGROUP_SOCK_OPS = 3
    SK_MSG_VERDICT = 7
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_GETSOCKOPT = 21
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    SK_LOOKUP = 36


MMAPABLE = 1 << 10  # map flag BPF_F_MMAPABLE
NO_PREALLOC = 1  # map flag BPF_F_NO_PREALLOC
SLEEPABLE = 1 << 4  # program flag BPF_F_SLEEPABLE


def bpf(cmd: Cmd, attr: ctypes.Array[ctypes.c_char] | ctypes.Structure) -> int:
    """The system call. `attr` is read and, for some commands, written."""
    result = int(_SYSCALL(_NUMBER, int(cmd), ctypes.byref(attr), ctypes.sizeof(attr)))
    return result if result >= 0 else _fail(cmd)


def _call(cmd: Cmd, layout: str, *values: int | bytes) -> int:
    return bpf(cmd, _attr(layout, *values))


def _wait(cmd: Cmd, layout: str, *values: int | bytes) -> int:
    """As `_call`, letting other threads run meanwhile."""
    attr = _attr(layout, *values)
    result = int(_WAITING(_NUMBER, int(cmd), ctypes.byref(attr), ctypes.sizeof(attr)))
    return result if result >= 0 else _fail(cmd)


def _fail(cmd: Cmd) -> NoReturn:
    code = ctypes.get_errno()
    raise OSError(code, f"bpf({cmd.name}): {os.strerror(code)}")


def _attr(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    data = struct.pack("<" + layout, *values)
    return ctypes.create_string_buffer(data, len(data))


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return ctypes.addressof(buffer) if buffer is not None else 0


def _copy(data: bytes | None) -> ctypes.Array[ctypes.c_char] | None:
    return None if data is None else ctypes.create_string_buffer(data, len(data))


def object_name(name: str) -> str:
    """`name` as the kernel keeps it: 15 bytes."""
    return name[:15]


# --- maps --------------------------------------------------------------------------------------


def map_create(
    kind: MapType,
    *,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int = 0,
    name: str = "",
    inner_fd: int = 0,
) -> int:
    """A new map; returns its fd."""
    text = object_name(name).encode()
    return _call(Cmd.MAP_CREATE, "6II16s", kind, key_size, value_size, max_entries, flags, inner_fd, 0, text)


def map_lookup(fd: int, key: bytes | None, value_size: int) -> bytes | None:
    """Value of `key`, or None. For per-CPU maps `value_size` covers all possible CPUs; queues take no key."""
    keys, out = _copy(key), ctypes.create_string_buffer(value_size)
    try:
        _call(Cmd.MAP_LOOKUP_ELEM, "IIQQQ", fd, 0, _address(keys), ctypes.addressof(out), 0)
    except FileNotFoundError:
        return None
    return out.raw


def map_update(fd: int, key: bytes | None, value: bytes, flags: int = 0) -> None:
    """Store `value`. `flags` 0: create or replace, 1: only create, 2: only replace."""
    keys, values = _copy(key), _copy(value)
    _call(Cmd.MAP_UPDATE_ELEM, "IIQQQ", fd, 0, _address(keys), _address(values), flags)


def map_delete(fd: int, key: bytes) -> bool:
    """Remove `key`; False when it was not there."""
    keys = _copy(key)
    try:
        _call(Cmd.MAP_DELETE_ELEM, "IIQQQ", fd, 0, _address(keys), 0, 0)
    except FileNotFoundError:
        return False
    return True


def map_pop(fd: int, value_size: int) -> bytes | None:
    """Take the next value of a queue or stack, None when it is empty."""
    out = ctypes.create_string_buffer(value_size)
    try:
        _call(Cmd.MAP_LOOKUP_AND_DELETE_ELEM, "IIQQQ", fd, 0, 0, ctypes.addressof(out), 0)
    except FileNotFoundError:
        return None
    return out.raw


def map_keys(fd: int, key_size: int) -> Iterator[bytes]:
    """All keys. A key deleted by others meanwhile makes a hash start over, so keys may come twice."""
    out = ctypes.create_string_buffer(key_size)
    key: bytes | None = None
    while True:
        keys = _copy(key)
        try:
            _call(Cmd.MAP_GET_NEXT_KEY, "IIQQQ", fd, 0, _address(keys), ctypes.addressof(out), 0)
        except FileNotFoundError:
            return
        key = out.raw
        yield key


def map_update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Store `count` values in one call; some are stored when it fails."""
    key_buffer, value_buffer = _copy(keys), _copy(values)
    _wait(Cmd.MAP_UPDATE_BATCH, "QQQQIIQQ", 0, 0, _address(key_buffer), _address(value_buffer), count, fd, 0, 0)


def map_lookup_batch(fd: int, key_size: int, value_size: int, count: int) -> tuple[bytes, bytes]:
    """Keys and values of an array's first `count` elements, each concatenated."""
    keys = ctypes.create_string_buffer(key_size * count)
    values = ctypes.create_string_buffer(value_size * count)
    out = ctypes.create_string_buffer(max(key_size, 8))
    where = (0, ctypes.addressof(out), ctypes.addressof(keys), ctypes.addressof(values))
    attr = _attr("QQQQIIQQ", *where, count, fd, 0, 0)
    try:
        bpf(Cmd.MAP_LOOKUP_BATCH, attr)
    except FileNotFoundError:  # the end was reached, which is no failure
        pass
    got = struct.unpack_from("<I", attr, 32)[0]
    return keys.raw[: got * key_size], values.raw[: got * value_size]


# --- programs ----------------------------------------------------------------------------------


def prog_load(kind: int, instructions: bytes, *, attach_type: int = 0, flags: int = 0, name: str = "") -> int:
    """Load raw instructions under the GPL, without a log; returns the fd."""
    code, licence = _copy(instructions), _copy(b"GPL\0")
    head = (kind, len(instructions) // 8, _address(code), _address(licence))
    text = object_name(name).encode()
    return _call(Cmd.PROG_LOAD, "IIQQIIQII16sII", *head, 0, 0, 0, 0, flags, text, 0, attach_type)


def prog_attach(fd: int, target_fd: int, attach_type: int) -> None:
    """Attach without a link (sockmaps of kernels before 6.10)."""
    _wait(Cmd.PROG_ATTACH, "IIIII", target_fd, fd, attach_type, 0, 0)


def prog_detach(fd: int, target_fd: int, attach_type: int) -> None:
    """Undo `prog_attach`."""
    _wait(Cmd.PROG_DETACH, "IIIII", target_fd, fd, attach_type, 0, 0)


def prog_run(fd: int, context: bytes) -> tuple[int, bytes]:
    """Run a SEC("syscall") program once on `context`; returns its result and the context afterwards."""
    data = _copy(context)
    attr = _attr("IIIIQQIIIIQQIII", fd, 0, 0, 0, 0, 0, 0, 0, len(context), 0, _address(data), 0, 0, 0, 0)
    bpf(Cmd.PROG_TEST_RUN, attr)
    assert data is not None
    return struct.unpack_from("<I", attr, 4)[0], data.raw


# --- links, pins -------------------------------------------------------------------------------


def link_create(prog_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach `prog_fd` to a cgroup, a network namespace or a sockmap; returns the link's fd."""
    return _wait(Cmd.LINK_CREATE, "IIIIQQ", prog_fd, target_fd, attach_type, 0, 0, 0)


def link_update(fd: int, prog_fd: int) -> None:
    """Replace the program of a link."""
    _call(Cmd.LINK_UPDATE, "IIII", fd, prog_fd, 0, 0)


def link_detach(fd: int) -> None:
    """Detach whatever others still hold the link."""
    _wait(Cmd.LINK_DETACH, "I", fd)


def pin(fd: int, path: str) -> None:
    """Give a map, program or link a name in bpffs."""
    name = _copy(os.fsencode(path) + b"\0")
    _call(Cmd.OBJ_PIN, "QII", _address(name), fd, 0)


def get_pinned(path: str) -> int:
    """fd of the object pinned at `path`."""
    name = _copy(os.fsencode(path) + b"\0")
    return _call(Cmd.OBJ_GET, "QII", _address(name), 0, 0)


# --- what is there -----------------------------------------------------------------------------


class Kind(IntEnum):
    """What an id or fd refers to. The value is the command that opens it by id."""

    PROG = Cmd.PROG_GET_FD_BY_ID
    MAP = Cmd.MAP_GET_FD_BY_ID
    LINK = Cmd.LINK_GET_FD_BY_ID


_NEXT = {Kind.PROG: Cmd.PROG_GET_NEXT_ID, Kind.MAP: Cmd.MAP_GET_NEXT_ID, Kind.LINK: Cmd.LINK_GET_NEXT_ID}


@dataclass(frozen=True, slots=True)
class MapInfo:
    """`struct bpf_map_info`; sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@dataclass(frozen=True, slots=True)
class ProgInfo:
    """`struct bpf_prog_info`."""

    type: int
    id: int
    name: str
    tag: str
    map_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """`struct bpf_link_info`. `target` is a cgroup id, a namespace's inode or a map id; 0 once detached."""

    type: int
    id: int
    prog_id: int
    target: int
    attach_type: int


def _info(fd: int, size: int, fill: bytes = b"") -> bytes:
    out = ctypes.create_string_buffer(fill, size)
    _call(Cmd.OBJ_GET_INFO_BY_FD, "IIQ", fd, size, ctypes.addressof(out))
    return out.raw


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def map_info(fd: int) -> MapInfo:
    """Facts about the map behind `fd`."""
    raw = _info(fd, 40)
    kind, number, key_size, value_size, max_entries, flags = struct.unpack_from("<6I", raw)
    return MapInfo(kind, number, key_size, value_size, max_entries, flags, _text(raw[24:40]))


def prog_info(fd: int) -> ProgInfo:
    """Facts about the program behind `fd`."""
    raw = _info(fd, 80)
    kind, number = struct.unpack_from("<II", raw)
    count = struct.unpack_from("<I", raw, 52)[0]
    ids = ctypes.create_string_buffer(max(4 * count, 4))
    raw = _info(fd, 80, struct.pack("<52xIQ", count, ctypes.addressof(ids)))
    return ProgInfo(kind, number, _text(raw[64:80]), raw[8:16].hex(), struct.unpack_from(f"<{count}I", ids))


def link_info(fd: int) -> LinkInfo:
    """Facts about the link behind `fd`."""
    raw = _info(fd, 32)
    kind, number, prog = struct.unpack_from("<III", raw)
    if kind == 3:  # BPF_LINK_TYPE_CGROUP has a 64-bit target
        return LinkInfo(kind, number, prog, *struct.unpack_from("<QI", raw, 16))
    return LinkInfo(kind, number, prog, *struct.unpack_from("<II", raw, 16))


def ids(kind: Kind) -> Iterator[int]:
    """Ids of all objects of a kind in the system. Needs CAP_SYS_ADMIN."""
    last = 0
    while True:
        attr = _attr("III", last, 0, 0)
        try:
            bpf(_NEXT[kind], attr)
        except FileNotFoundError:
            return
        last = struct.unpack_from("<I", attr, 4)[0]
        yield last


def open_id(kind: Kind, number: int) -> int | None:
    """fd of the object with this id, None when it is gone. Needs CAP_SYS_ADMIN."""
    try:
        return _call(Cmd(kind.value), "III", number, 0, 0)
    except FileNotFoundError:
        return None


def exists(kind: Kind, number: int) -> bool:
    """Whether an object with this id is still there.

    Asked without taking a reference: closing an fd of a PROG_ARRAY whose last pin has just gone starts its clearing a
    second time, and where the first is still pending the kernel (seen on 6.18) loses a reference and keeps the map
    for ever.
    """
    attr = _attr("III", number - 1, 0, 0)
    try:
        bpf(_NEXT[kind], attr)
    except FileNotFoundError:
        return False
    return bool(struct.unpack_from("<I", attr, 4)[0] == number)


def is_unprivileged(error: OSError) -> bool:
    """Whether the kernel refused for lack of privilege."""
    return error.errno in (errno.EPERM, errno.EACCES)
