"""Who an accepted connection is: from what BPF noted on the socket to a proxy's `FlowInfo`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from functools import lru_cache

from l7fp import abi
from l7fp.ir.interp import Source
from l7fp.ir.model import Workload
from slowpath.agent.kernel import SockState, Words
from slowpath.interfaces import FlowInfo

_MAX_SOURCES = 65536
_V4_MAPPED = bytes(10) + b"\xff\xff"


@lru_cache(maxsize=4096)
def ip_text(words: Words) -> str:
    """Text of an address as BPF keeps it: four words in network byte order, IPv4 mapped. Zero: empty."""
    raw = struct.pack("<4I", *words)
    if not any(raw):
        return ""
    if raw.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def ip_words(address: str) -> Words:
    """The inverse of `ip_text`."""
    if ":" in address:
        raw = socket.inet_pton(socket.AF_INET6, address)
    else:
        raw = _V4_MAPPED + socket.inet_pton(socket.AF_INET, address)
    a, b, c, d = struct.unpack("<4I", raw)
    return a, b, c, d


def source_of(workload: Workload | None, ip: str, conflict: bool) -> Source:
    """The identity that conditions on the source see. An unknown workload has its address only."""
    if workload is None:
        return Source(ip=ip, conflict=conflict)
    return Source(
        workload=workload.name,
        namespace=workload.namespace,
        principal=workload.principal,
        labels=workload.labels,
        ip=ip,
        conflict=conflict,
    )


class Attribution:
    """Turns `sock_state` records into flows. `workloads` maps cgroup ids to workloads."""

    def __init__(self, workloads: Mapping[int, Workload]) -> None:
        self.workloads = workloads
        self._sources: dict[tuple[int, str, bool], Source] = {}

    def replace(self, workloads: Mapping[int, Workload]) -> None:
        """Identities of a new policy, for connections accepted from now on."""
        self.workloads = workloads
        self._sources.clear()

    def flow(self, state: SockState | None) -> FlowInfo | None:
        """The flow of an accepted socket; None if BPF did not bring it here, and it must be closed."""
        if state is None or state.kind != abi.SockKind.ACCEPTED:
            return None
        ip = ip_text(state.source_ip)
        key = (state.workload, ip, bool(state.flags & abi.SockFlag.IDENTITY_CONFLICT))
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES:
                self._sources.clear()
            source = self._sources[key] = source_of(self.workloads.get(state.workload), ip, key[2])
        return FlowInfo(
            port=state.orig_port,
            source=source,
            destination_ip=ip_text(state.orig_ip),
            conn_id=state.id,
            peer=ip,
        )
