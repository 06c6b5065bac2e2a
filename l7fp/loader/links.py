"""Attaching programs, always by links that can be pinned where the kernel has them, and finding out who else did."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from l7fp.errors import LoadError
from l7fp.loader import sys
from l7fp.loader.sys import AttachType, Kind, ProgType

_LINK_CGROUP = 3  # BPF_LINK_TYPE_CGROUP

_FIXED = {ProgType.SOCK_OPS: AttachType.CGROUP_SOCK_OPS, ProgType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT}
"""Attach types that object files may leave out, because the program type says it."""

_MARKS = frozenset({"captured", "listeners"})
"""Maps that a capturing program of any l7fp version uses."""


def attach_cgroup(prog_fd: int, cgroup_fd: int, prog_type: int, attach_type: int) -> int:
    """Link a program to a cgroup and its descendants, beside programs of others; returns the link's fd."""
    return sys.link_create(prog_fd, cgroup_fd, _FIXED.get(ProgType(prog_type), attach_type))


def attach_netns(prog_fd: int, netns_fd: int) -> int:
    """Link an sk_lookup program to a network namespace; it goes when the namespace does."""
    return sys.link_create(prog_fd, netns_fd, AttachType.SK_LOOKUP)


def attach_sockmap(prog_fd: int, map_fd: int) -> int | None:
    """Make sk_msg program `prog_fd` that of all sockets put into the map from now on.

    Returns the link's fd, or None where the kernel (before 6.10) has none: then the map itself keeps the program
    and `detach_sockmap` takes it off.
    """
    try:
        return sys.link_create(prog_fd, map_fd, AttachType.SK_MSG_VERDICT)
    except OSError as error:
        if sys.is_unprivileged(error):
            raise
    sys.prog_attach(prog_fd, map_fd, AttachType.SK_MSG_VERDICT)
    return None


def detach_sockmap(prog_fd: int, map_fd: int) -> None:
    """Undo `attach_sockmap` where it made no link; nothing happens when it isn't attached."""
    try:
        sys.prog_detach(prog_fd, map_fd, AttachType.SK_MSG_VERDICT)
    except FileNotFoundError:
        pass


@dataclass(frozen=True, slots=True)
class Occupant:
    """A capturing program of some l7fp: its link's id and the cgroup it is attached to."""

    link_id: int
    cgroup_id: int


def occupants() -> Iterator[Occupant]:
    """All of them in the system; none where ids can't be listed for lack of CAP_SYS_ADMIN."""
    try:
        numbers = list(sys.ids(Kind.LINK))
    except PermissionError:
        return
    for number in numbers:
        fd = sys.open_id(Kind.LINK, number)
        if fd is None:
            continue
        try:
            info = sys.link_info(fd)
        finally:
            os.close(fd)
        captures = info.type == _LINK_CGROUP and info.attach_type == AttachType.CGROUP_INET4_CONNECT
        if captures and info.target and _map_names(info.prog_id) >= _MARKS:
            yield Occupant(info.id, info.target)


def _map_names(prog_id: int) -> set[str]:
    prog = sys.open_id(Kind.PROG, prog_id)
    if prog is None:
        return set()
    try:
        numbers = sys.prog_info(prog).map_ids
    finally:
        os.close(prog)
    names = set()
    for number in numbers:
        fd = sys.open_id(Kind.MAP, number)
        if fd is not None:
            names.add(sys.map_info(fd).name)
            os.close(fd)
    return names


def refuse_overlap(cgroup: str, bpffs: str) -> None:
    """Raise `LoadError` when another instance captures for this cgroup, one above it or one below it.

    Both would rewrite the same connections.
    """
    found = {occupant.cgroup_id: occupant for occupant in occupants()}
    if not found:
        return
    path = os.path.realpath(cgroup)
    above = path
    while os.path.exists(os.path.join(above, "cgroup.procs")):
        if occupant := found.get(os.stat(above).st_ino):
            raise _overlap(above, occupant, bpffs)
        above = os.path.dirname(above)
    for folder, _, _ in os.walk(path):
        if occupant := found.get(os.stat(folder).st_ino):
            raise _overlap(folder, occupant, bpffs)


def _overlap(path: str, occupant: Occupant, bpffs: str) -> LoadError:
    name = instance_of(occupant.link_id, bpffs)
    who = f"instance '{name}'" if name else "another l7fp"
    option = f" --instance {name}" if name else ""
    return LoadError(f"{who} already serves {path}", hint=f"run `l7fp unload{option}`, or choose another --cgroup")


def instance_of(link_id: int, bpffs: str) -> str:
    """Name of the instance below `bpffs` that pins this link, empty when none does."""
    for name in sorted(os.listdir(bpffs)):
        path = os.path.join(bpffs, name, "links", "connect4")
        try:
            fd = sys.get_pinned(path)
        except OSError:
            continue
        try:
            if sys.link_info(fd).id == link_id:
                return name
        finally:
            os.close(fd)
    return ""
