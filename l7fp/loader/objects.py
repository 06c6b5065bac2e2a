"""The two ELF objects of a bundle in the kernel: the base, shared by all versions, and one policy version."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from l7fp import abi
from l7fp.codegen.sources import address_bits
from l7fp.errors import LoadError, UnavailableError
from l7fp.loader import layout, links, maps, sys
from l7fp.loader.codecs import LPM_KEY, U64
from l7fp.loader.desired import Desired
from l7fp.loader.libbpf import Map, Object
from l7fp.loader.pins import Pins
from l7fp.loader.sys import Kind

_KEPT_POLICY_MAPS = ("source_bits", "rule_counters")


@dataclass(frozen=True, slots=True)
class Hook:
    """A loaded program that is to be attached."""

    fd: int
    type: int
    attach_type: int


@dataclass(slots=True)
class Base:
    """fds of the base object's maps by name, and of its programs where this process loaded or pinned them."""

    maps: dict[str, int]
    hooks: dict[str, Hook]

    def keep(self, names: tuple[str, ...]) -> None:
        """Close the programs other than `names`; their links keep them."""
        for name in [name for name in self.hooks if name not in names]:
            os.close(self.hooks.pop(name).fd)

    def close(self) -> None:
        """Close all fds; what is pinned stays."""
        for fd in (*self.maps.values(), *(hook.fd for hook in self.hooks.values())):
            os.close(fd)
        self.maps, self.hooks = {}, {}


def load_base(elf: bytes) -> Base:
    """Create the base's maps and load its programs."""
    with Object(elf, name="l7fp_base") as obj:
        missing = [name for name in layout.BASE_MAPS if name not in obj.maps]
        missing += [name for name in (*layout.HOOKS, "ctl") if name not in obj.programs]
        if missing:
            raise LoadError(f"the base object lacks {', '.join(missing)}", hint="compile the policy again")
        obj.load()
        return Base(
            {m.name: os.dup(m.fd) for m in obj.maps.values()},
            {p.name: Hook(os.dup(p.fd), p.type, p.attach_type) for p in obj.programs.values()},
        )


def open_base(pins: Pins) -> Base:
    """The pinned base of an instance. Raises `LoadError` when a part of it is gone."""
    missing = [name for name in layout.BASE_MAPS if name not in pins.names("maps")]
    if missing:
        raise LoadError(f"{pins.root} is damaged: {', '.join(missing)} gone", hint="run `l7fp unload`, then load again")
    base = Base({}, {})
    try:
        for name in pins.names("maps"):
            base.maps[name] = pins.open("maps", name)
        for name in pins.names("progs"):
            base.hooks[name] = Hook(pins.open("progs", name), 0, 0)
    except BaseException:
        base.close()
        raise
    return base


def attach(base: Base, name: str, cgroup_fd: int) -> int | None:
    """Attach one of `layout.HOOKS`; returns the link's fd, None for a sockmap attached without one."""
    hook = base.hooks[name]
    if name == "entry":
        return links.attach_sockmap(hook.fd, base.maps["sockhash"])
    return links.attach_cgroup(hook.fd, cgroup_fd, hook.type, hook.attach_type)


@dataclass(slots=True)
class PolicyVersion:
    """One loaded policy program and those of its maps that are read or written later."""

    program: int
    maps: dict[str, int]

    def close(self) -> None:
        """Close the fds; in the policy array the program and its maps live on."""
        for fd in (self.program, *self.maps.values()):
            if fd >= 0:
                os.close(fd)
        self.program, self.maps = -1, {}


@dataclass(slots=True)
class Prepared:
    """A policy object that the kernel has accepted; its tables are still empty and nothing runs it."""

    desired: Desired
    object: Object

    def close(self) -> None:
        """Free what `fill_policy` has not taken."""
        self.object.close()


def prepare_policy(desired: Desired, base: Base) -> Prepared:
    """Load a policy object on the shared base. This is the slow part, because of the verifier; it changes nothing
    that is live and may run in any thread."""
    tables = _tables(desired, [0] * len(desired.endpoints))
    obj = Object(desired.policy_object, name="l7fp_policy")
    try:
        absent = [name for name in tables if name not in obj.maps]
        if layout.POLICY_PROGRAM not in obj.programs or absent:
            what = f"table {', '.join(absent)}" if absent else "program"
            raise LoadError(f"the policy object has no {what}", hint="compile the policy again")
        for declared in obj.maps.values():
            if declared.name in base.maps:
                _share(declared, base.maps[declared.name])
            elif declared.name in tables:
                _size(declared, tables[declared.name])
        obj.load()
    except BaseException:
        obj.close()
        raise
    return Prepared(desired, obj)


def fill_policy(
    prepared: Prepared, *, version: int, endpoint_ids: list[int], sources: Mapping[int, int]
) -> PolicyVersion:
    """Fill the tables of a prepared policy and close it.

    `endpoint_ids[i]` belongs to `desired.endpoints[i]`; `sources` are cgroup id -> source bits.
    """
    desired, obj = prepared.desired, prepared.object
    with obj:
        for name, data in _tables(desired, endpoint_ids).items():
            _fill(obj.maps[name], data)
        if desired.ports:
            view = layout.view("ports", obj.maps["ports"].fd)
            view.update({key.to_bytes(4, "little"): value for key, value in desired.ports.items()})
        if "version" in obj.maps:
            sys.map_update(obj.maps["version"].fd, bytes(4), struct.pack("<I", version))
        if "source_bits" in obj.maps:
            maps.HashView(obj.maps["source_bits"].fd, U64, U64).update(sources)
        if "source_ip" in obj.maps:
            maps.HashView(obj.maps["source_ip"].fd, LPM_KEY, U64).update(address_bits(desired.source_ip_atoms))
        kept = {name: os.dup(obj.maps[name].fd) for name in _KEPT_POLICY_MAPS if name in obj.maps}
        return PolicyVersion(os.dup(obj.programs[layout.POLICY_PROGRAM].fd), kept)


def _tables(desired: Desired, endpoint_ids: list[int]) -> dict[str, bytes]:
    tables = dict(desired.tables)
    if endpoint_ids:
        tables["endpoints"] = struct.pack(f"<{len(endpoint_ids)}I", *endpoint_ids)
    return tables


def live_policy(base: Base) -> PolicyVersion | None:
    """The version that the policy array runs now, None when there is none. Needs CAP_SYS_ADMIN."""
    raw = sys.map_lookup(base.maps["policy"], bytes(4), 4)
    try:
        program = sys.open_id(Kind.PROG, struct.unpack("<I", raw)[0]) if raw else None
    except PermissionError as error:
        raise UnavailableError("opening what is loaded needs CAP_SYS_ADMIN", hint="run it as root (sudo)") from error
    if program is None:
        return None
    found = PolicyVersion(program, {})
    wanted = {sys.object_name(name): name for name in _KEPT_POLICY_MAPS}
    for number in sys.prog_info(program).map_ids:
        fd = sys.open_id(Kind.MAP, number)
        if fd is None:
            continue
        name = wanted.get(sys.map_info(fd).name)
        if name:
            found.maps[name] = fd
        else:
            os.close(fd)
    return found


def _share(declared: Map, fd: int) -> None:
    """libbpf takes any map that it is given: what the program expects is checked here."""
    info = sys.map_info(fd)
    kind, key_size, value_size, entries = declared.shape
    if (kind, key_size, value_size, entries) != (info.type, info.key_size, info.value_size, info.max_entries):
        raise LoadError(
            f"the loaded map {declared.name} is not the one that the policy was compiled for",
            hint="run `l7fp unload`, then load again",
        )
    declared.reuse(fd)


def _size(declared: Map, data: bytes) -> None:
    _, _, value_size, entries = declared.shape
    if entries == 1 and value_size >= len(data):
        return
    if len(data) % value_size:
        raise LoadError(f"table {declared.name} does not fit its map", hint="compile the policy again")
    if len(data) // value_size > entries:
        declared.set_max_entries(len(data) // value_size)


def _fill(declared: Map, data: bytes) -> None:
    _, _, value_size, _ = declared.shape
    padded = data.ljust(-(-len(data) // value_size) * value_size, b"\0")
    maps.fill_array(declared.fd, list(maps.chunks(padded, value_size)))


def fill_conn_ids(base: Base) -> None:
    """Offer every connection id: the index in `conns`, and in the high half a generation, which starts at 1 so
    that no id is 0."""
    queue = maps.QueueView(base.maps["conn_ids"])
    for index in range(abi.MAX_CONNS):
        queue.push(1 << 16 | index)
