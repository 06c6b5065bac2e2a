"""Which maps the base object has and what is in them: the one list that views are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from l7fp import abi
from l7fp.loader import codecs, maps, sys
from l7fp.loader.sys import MapInfo, MapType

BASE_MAPS: tuple[str, ...] = (
    "sockhash", "sock_storage", "conns", "slots", "endpoint_states", "config", "captured", "protected", "listeners",
    "workload_cgroups", "flows", "conn_ids", "pools", "stats", "events", "policy",
)  # fmt: skip
"""Maps without which a base object can't be driven; it may have more of its own."""

HOOKS: tuple[str, ...] = (
    "entry", "sock_ops", "getsockopt", "getpeername4", "getpeername6", "sendmsg4", "sendmsg6", "connect4", "connect6",
)  # fmt: skip
"""Programs that are attached, in the order of attachment: capture begins when all else is in place."""

KEPT_PROGRAMS: tuple[str, ...] = ("entry", "backstop", "ctl")
"""Programs that are pinned themselves, because they are attached later, called, or attached without a link."""

POLICY_PROGRAM = "msg"

_CODECS: dict[str, tuple[codecs.Codec[Any], codecs.Codec[Any]]] = {
    "captured": (codecs.ADDRESS, codecs.U32),
    "protected": (codecs.ADDRESS, codecs.U32),
    "listeners": (codecs.U64, codecs.record("listener")),
    "workload_cgroups": (codecs.U64, codecs.WORKLOAD_ID),
    "sock_storage": (codecs.U32, codecs.record("sock_state")),
    "flows": (codecs.record("flow_key"), codecs.record("sock_state")),
    "endpoint_ids": (codecs.ADDRESS, codecs.U32),
    "source_bits": (codecs.U64, codecs.U64),
    "source_ip": (codecs.LPM_KEY, codecs.U64),
}

_RECORDS = {"conns": "conn", "slots": "slot", "endpoint_states": "endpoint_state", "config": "config"}


def view(name: str, fd: int) -> Any:
    """The typed view of map `name`, by its kind; unknown contents are raw bytes. None where there is no such view."""
    info = sys.map_info(fd)
    make = _VIEWS.get(info.type)
    return make(name, fd, info) if make else None


def _hash(name: str, fd: int, info: MapInfo) -> maps.HashView[Any, Any]:
    key, value = _CODECS.get(name, (codecs.raw(info.key_size), codecs.raw(info.value_size)))
    return maps.HashView(fd, key, value)


def _array(name: str, fd: int, info: MapInfo) -> Any:
    if info.flags & sys.MMAPABLE and name in _RECORDS:
        return maps.MmapView(fd, abi.BY_NAME[_RECORDS[name]], info.max_entries)
    return maps.ArrayView(fd, codecs.raw(info.value_size), info.max_entries)


_VIEWS: dict[int, Callable[[str, int, MapInfo], Any]] = {
    MapType.HASH: _hash,
    MapType.LRU_HASH: _hash,
    MapType.LPM_TRIE: _hash,
    MapType.SOCKHASH: lambda name, fd, info: maps.HashView(fd, codecs.U64, codecs.U64),
    MapType.ARRAY: _array,
    MapType.PERCPU_ARRAY: lambda name, fd, info: maps.PerCpuView(fd, info.max_entries),
    MapType.QUEUE: lambda name, fd, info: maps.QueueView(fd),
    MapType.STACK: lambda name, fd, info: maps.QueueView(fd),
    MapType.ARRAY_OF_MAPS: lambda name, fd, info: maps.PoolsView(fd),
    MapType.SK_STORAGE: lambda name, fd, info: maps.StorageView(fd, *_CODECS["sock_storage"]),
}
