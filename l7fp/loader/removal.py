"""Taking an instance out of the kernel by nothing but its pins, and making sure that it is gone."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable

from l7fp.loader import links, sys
from l7fp.loader.layout import HOOKS
from l7fp.loader.pins import Pins
from l7fp.loader.sys import Kind, MapType

GONE_SECONDS = 3.0
"""How long the kernel gets to free what nobody refers to any more; it takes a few tens of milliseconds."""

ObjectId = tuple[Kind, int]


def purge(pins: Pins) -> list[str]:
    """Detach and unpin everything; the folders stay. Returns what was there, as `links/connect4`.

    Capture ends first. Sockets are taken out of the sockhash, because each keeps the program that was attached when
    it went in, which keeps the sockhash.
    """
    pins.remove_meta()
    removed = []
    order = {name: at for at, name in enumerate(reversed(HOOKS))}
    for name in sorted(pins.names("links"), key=lambda name: order.get(name, len(order))):
        fd = pins.open("links", name)
        try:
            sys.link_detach(fd)
        except OSError:  # gone with its cgroup or namespace, or a kind that ends with its last reference
            pass
        finally:
            os.close(fd)
        pins.remove("links", name)
        removed.append(f"links/{name}")
    _release_sockets(pins)
    for kind in ("progs", "maps"):
        for name in pins.names(kind):
            pins.remove(kind, name)
            removed.append(f"{kind}/{name}")
    return removed


def _release_sockets(pins: Pins) -> None:
    names = pins.names("maps")
    if "sockhash" in names:
        sockets = pins.open("maps", "sockhash")
        if "entry" in pins.names("progs"):
            entry = pins.open("progs", "entry")
            links.detach_sockmap(entry, sockets)
            os.close(entry)
        for key in list(sys.map_keys(sockets, sys.map_info(sockets).key_size)):
            sys.map_delete(sockets, key)
        os.close(sockets)
    if "policy" in names:
        policy = pins.open("maps", "policy")
        sys.map_delete(policy, bytes(4))
        os.close(policy)


def objects_of(pins: Pins) -> set[ObjectId]:
    """Ids of the programs, maps and links that the pins keep, directly or through each other."""
    found: set[ObjectId] = set()
    programs: set[int] = set()
    for name in pins.names("links"):
        fd = pins.open("links", name)
        link = sys.link_info(fd)
        os.close(fd)
        found.add((Kind.LINK, link.id))
        programs.add(link.prog_id)
    for name in pins.names("progs"):
        fd = pins.open("progs", name)
        programs.add(sys.prog_info(fd).id)
        os.close(fd)
    for name in pins.names("maps"):
        fd = pins.open("maps", name)
        info = sys.map_info(fd)
        found.add((Kind.MAP, info.id))
        if info.type == MapType.PROG_ARRAY:
            programs.update(_values(fd))
        elif info.type == MapType.ARRAY_OF_MAPS:
            found.update((Kind.MAP, number) for number in _values(fd))
        os.close(fd)
    for number in programs:
        found.add((Kind.PROG, number))
        try:
            program = sys.open_id(Kind.PROG, number)
        except PermissionError:  # without CAP_SYS_ADMIN ids can't be followed
            continue
        if program is not None:
            found.update((Kind.MAP, map_id) for map_id in sys.prog_info(program).map_ids)
            os.close(program)
    return found


def _values(fd: int) -> Iterable[int]:
    for key in sys.map_keys(fd, 4):
        raw = sys.map_lookup(fd, key, 4)
        if raw:
            yield struct.unpack("<I", raw)[0]


def wait_gone(objects: set[ObjectId], seconds: float) -> set[ObjectId]:
    """Wait for the kernel to free `objects`, which it does some grace periods after the last reference; returns
    those that are still there, because another process holds them. Without CAP_SYS_ADMIN nobody can tell: none."""
    until = time.monotonic() + seconds
    left = objects
    try:
        while left := {(kind, number) for kind, number in left if sys.exists(kind, number)}:
            if time.monotonic() > until:
                break
            time.sleep(0.005)
    except PermissionError:
        return set()
    return left
