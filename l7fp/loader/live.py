"""An instance that is loaded, as this process sees it: typed views of its maps, and what the agent does with them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from l7fp import abi
from l7fp.codegen.sources import workload_bits
from l7fp.errors import LoadError
from l7fp.ir.model import Workload
from l7fp.loader import endpoints, features, layout, links, mounts, netns, objects, sys, workloads
from l7fp.loader.codecs import U64, Address
from l7fp.loader.control import Control
from l7fp.loader.desired import Desired, canonical
from l7fp.loader.endpoints import EndpointIds
from l7fp.loader.maps import HashView, MmapView, PoolsView
from l7fp.loader.objects import Base, PolicyVersion
from l7fp.loader.pins import Meta, Pins
from l7fp.loader.reconcile import Transaction, difference
from l7fp.loader.ring import RingBuffer
from l7fp.loader.workloads import Scan


class Live:
    """Opened by `adopt`, or by `Loader.load`. Then `maps[name]` are typed views of the base's maps, `conns`, `slots`,
    `endpoint_states` and `config` shared memory, and `ctl(op, slot, argument)` runs the control program.

    One thread drives it; `Loader.prepare` and `Loader.swap` may run in another.
    """

    conns: MmapView
    slots: MmapView
    endpoint_states: MmapView
    config: MmapView
    ctl: Control

    def __init__(self, *, instance: str = "l7fp", bpffs: str = "/sys/fs/bpf") -> None:
        self.instance, self.bpffs = instance, bpffs
        self.pins = Pins(bpffs, instance)
        self.maps: dict[str, Any] = {}
        self.meta: Meta | None = None
        self._base: Base | None = None
        self._policy: PolicyVersion | None = None
        self._ids: EndpointIds | None = None
        self._ring: RingBuffer | None = None
        self._desired: Desired | None = None
        self._protect = False
        self._extra: frozenset[Address] = frozenset()
        self._known: dict[str, dict[Any, Any]] = {}
        self._changing = threading.RLock()  # identities must never be computed by one policy and stored in another

    def adopt(self) -> None:
        """Open what is pinned, to look at it or to drive it. Raises `LoadError` when nothing is loaded."""
        features.require_privileges()
        self.close()
        if not self.pins.complete:
            raise LoadError(f"instance '{self.instance}' is not loaded", hint="run `l7fp load` or `l7fp run`")
        self._open()

    def _open(self) -> None:
        self.meta = self.pins.read_meta()
        try:
            base = objects.open_base(self.pins)
            self._view(base)
            self._policy = objects.live_policy(base)
        except BaseException:
            self.close()
            raise
        self._protect = bool(self.config["protect"][0])

    def _view(self, base: Base) -> None:
        self._base = base
        for name, fd in base.maps.items():
            view = layout.view(name, fd)
            if view is not None:
                self.maps[name] = view
        self.conns, self.slots = self.maps["conns"], self.maps["slots"]
        self.endpoint_states, self.config = self.maps["endpoint_states"], self.maps["config"]
        self._ids = EndpointIds(base.maps[endpoints.MAP], self.maps["pools"])
        self.ctl = Control(base.hooks["ctl"].fd)

    @property
    def _endpoint_ids(self) -> EndpointIds:
        if self._ids is None:
            raise LoadError("nothing is loaded", hint="load a policy first")
        return self._ids

    def close(self) -> None:
        """Let go of everything; what is pinned stays in force."""
        if self._ring:
            self._ring.close()
        for view in self.maps.values():
            view.close()
        if self._policy:
            self._policy.close()
        if self._base:
            self._base.close()
        self.maps, self._base, self._policy, self._ids, self._ring = {}, None, None, None, None
        self.meta, self._known, self._desired = None, {}, None

    def _reconcile(self, steps: Transaction, name: str, wanted: Mapping[Any, Any]) -> Callable[[], None]:
        """Add to map `name` what it lacks; the function returned removes what is too much."""
        view = self.maps[name]
        known = self._known.pop(name, None)
        change = difference(view.items() if known is None else known, wanted)

        def restore() -> None:
            self._known.pop(name, None)
            view.update(change.previous)
            for key in change.store:
                if key not in change.previous:
                    view.delete(key)

        def remove() -> None:
            for key in change.remove:
                view.delete(key)
            self._known[name] = dict(wanted)

        if change:
            steps.on_undo(name, restore)
        steps.step(f"add to {name}", lambda: view.update(change.store))
        return lambda: steps.step(f"remove from {name}", remove)

    # -- what the agent drives --------------------------------------------------------------------

    def events(self) -> RingBuffer:
        """The event ring; there must be one consumer only."""
        if self._ring is None:
            assert self._base is not None
            self._ring = RingBuffer(self._base.maps["events"])
        return self._ring

    def set_listener(self, cookie: int, port4: int, port6: int) -> None:
        """The agent listens on these loopback ports (0: not) in the namespace with this cookie."""
        self.maps["listeners"].set(cookie, {"port4": port4, "port6": port6})

    def remove_listener(self, cookie: int) -> None:
        """Managed connections from that namespace are refused from now on."""
        self.maps["listeners"].delete(cookie)

    def capture(self, addresses: Iterable[Address]) -> None:
        """Capture these too, beside the policy's own; replaces what an earlier call asked for."""
        with self._changing:
            self._extra = frozenset(addresses)
            wanted = (self._desired.capture if self._desired else frozenset()) | self._extra
            with Transaction() as steps:
                self._reconcile(steps, "captured", dict.fromkeys(wanted, 0))()

    def endpoint_id(self, address: str, port: int) -> int:
        """The number of an endpoint, a new one with a pool of its own if it has none. Canonical text only."""
        with self._changing:
            ids = self._endpoint_ids
            ids.allocate([(address, port)])
            number = ids.get((address, port))
            assert number is not None
            return number

    def release_endpoint(self, address: str, port: int) -> None:
        """Forget an endpoint that no policy version and no slot refers to any more."""
        with self._changing:
            self._endpoint_ids.release((address, port))

    def set_pool(self, endpoint: int) -> None:
        """Give an endpoint a new, empty pool."""
        pools: PoolsView = self.maps["pools"]
        pools.create([endpoint])

    def protect_netns(self, fd: int) -> None:
        """Refuse direct connections to protected endpoints in the network namespace behind `fd`."""
        with self._changing:
            assert self._base is not None
            name = f"backstop_{netns.inode(fd)}"
            if name in self.pins.names("links"):
                if self.target(name):
                    return
                self.pins.remove("links", name)  # of a namespace that has gone, whose inode was given to this one
            link = links.attach_netns(self._base.hooks["backstop"].fd, fd)
            try:
                self.pins.add("links", name, link)
            finally:
                os.close(link)

    def rescan(self) -> Scan:
        """Look for the workloads' cgroups again, and tell the kernel of those that came or went."""
        with self._changing:
            if self._desired is None:
                return Scan({}, ())
            scan = workloads.scan(self._desired.workloads, mounts.cgroup2() or "")
            self.set_sources(scan.found)
            return scan

    def set_sources(self, found: Mapping[int, Workload]) -> None:
        """Cgroup id -> workload: from now on requests of these cgroups have these identities."""
        with self._changing:
            assert self._policy is not None
            atoms = self._desired.source_atoms if self._desired else ()
            bits = {number: workload_bits(atoms, workload) for number, workload in found.items()}
            if "source_bits" in self._policy.maps:
                view = HashView(self._policy.maps["source_bits"], U64, U64)
                change = difference(view.items(), bits)
                view.update(change.store)
                for number in change.remove:
                    view.delete(number)
            with Transaction() as steps:
                self._reconcile(steps, "workload_cgroups", own_addresses(found))()

    # -- looking ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is loaded, as plain data. Opens what is pinned when this process has not."""
        opened = self._base is None
        if opened:
            self.adopt()
        try:
            meta = self.meta
            assert meta is not None
            counts = self.maps["stats"].sums()
            return {
                "instance": self.instance,
                "cgroup": meta.cgroup,
                "version": meta.version,
                "base_digest": meta.base_digest,
                "policy_digest": meta.policy_digest,
                "pid": meta.pid,
                "owner_alive": meta.owner_alive,
                "links": {name: self.target(name) != 0 for name in self.pins.names("links")},
                "endpoints": [
                    {"address": address, "port": port, "id": number, "usable": self.endpoint_states["usable"][number]}
                    for (address, port), number in sorted(self._endpoint_ids.all().items())
                ],
                "captured": len(self.maps["captured"].items()),
                "workloads": len(self.maps["workload_cgroups"].items()),
                "stats": {r.name.lower(): counts[r] for r in abi.Reason if r < len(counts) and counts[r]},
                "rule_counters": self.rule_counters(),
            }
        finally:
            if opened:
                self.close()

    def rule_counters(self) -> list[tuple[int, int, int]]:
        """(forwarded, replied, diverted) by rule counter, of the version in force."""
        if self._policy is None or "rule_counters" not in self._policy.maps:
            return []
        sums = layout.view("rule_counters", self._policy.maps["rule_counters"]).sums()
        return [tuple(sums[at : at + 3]) for at in range(0, len(sums) // 3 * 3, 3)]

    def target(self, name: str) -> int:
        """What a pinned link is attached to: a cgroup's id, a namespace's inode or a map's id; 0 if that is gone."""
        fd = self.pins.open("links", name)
        try:
            return sys.link_info(fd).target
        finally:
            os.close(fd)


def own_addresses(found: Mapping[int, Workload]) -> dict[int, str]:
    """Cgroup id -> the workload's own address, empty where it has none."""
    out = {}
    for number, workload in found.items():
        own = (canonical(address, 0) for address in workload.addresses)
        out[number] = next((address[0] for address in own if address), "")
    return out
