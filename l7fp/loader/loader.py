"""One instance of l7fp in the kernel: load it, swap its policy, remove it.

Whatever is loaded is pinned, so it outlives this process: another one can adopt it, look at it or unload it by the
instance's name alone. Every change is made completely or undone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType

from l7fp import abi
from l7fp.codegen.artifact import Bundle
from l7fp.codegen.sources import workload_bits
from l7fp.errors import LoadError
from l7fp.loader import endpoints, features, layout, links, mounts, objects, removal, sys, workloads
from l7fp.loader.codecs import Address
from l7fp.loader.desired import Desired, of
from l7fp.loader.live import Live, own_addresses
from l7fp.loader.objects import PolicyVersion, Prepared
from l7fp.loader.pins import Meta, process_start
from l7fp.loader.reconcile import Transaction
from l7fp.loader.removal import GONE_SECONDS
from l7fp.loader.workloads import Scan

_UNLOAD = "run `l7fp unload`, then load again"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is in force after a load or swap."""

    instance: str
    cgroup: str
    version: int
    adopted: bool
    endpoints: dict[Address, int]
    missing_workloads: tuple[str, ...]


class Loader(Live):
    """`cgroup` is a cgroup v2 directory, absolute or below its mount; the default is the root.

    `on_step` is told the name of each step of a change before it is taken; what it raises undoes the change.
    """

    def __init__(
        self,
        *,
        instance: str = "l7fp",
        cgroup: str | None = None,
        bpffs: str = "/sys/fs/bpf",
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(instance=instance, bpffs=bpffs)
        self.cgroup, self.on_step = cgroup, on_step
        self.remaining: set[removal.ObjectId] = set()

    def load(
        self,
        bundle: Bundle | Desired,
        *,
        protect: bool = False,
        protect_netns: Sequence[int] = (),
        take_over: bool = False,
        before_attach: Callable[[], None] | None = None,
    ) -> State:
        """Put a policy in force: on a fresh base, or on the pinned one of this instance if it is the same.

        `protect` makes endpoints refuse what did not come through l7fp, in the network namespaces whose fds are
        given. `take_over` allows adopting what a living process loaded. `before_attach` runs when all maps are there
        and nothing is captured yet. Raises `UnavailableError` or `LoadError`; then nothing has changed.
        """
        features.require()
        desired = bundle if isinstance(bundle, Desired) else of(bundle)
        cgroup = features.cgroup_directory(self.cgroup)
        workloads.check(desired.workloads)
        mounts.ensure_bpffs(self.bpffs)
        self.close()
        with self.pins.locked(create=True):
            adopted = self.pins.complete
            try:
                with Transaction(self.on_step) as steps:
                    if adopted:
                        self._check_adoption(desired, cgroup, take_over)
                        steps.step("open what is pinned", self._open, self.close)
                    else:
                        self._install(steps, desired, cgroup)
                    assert self.meta is not None
                    self._protect = protect
                    assert self._base is not None
                    prepared = steps.step("load the policy", partial(objects.prepare_policy, desired, self._base))
                    steps.on_undo("close the policy", prepared.close)
                    scan, old = self._switch(steps, prepared)
                    for fd in protect_netns:
                        steps.step("protect a namespace", partial(self.protect_netns, fd))
                    if before_attach:
                        steps.step("prepare", before_attach)
                    if not adopted:
                        self._attach(steps, cgroup)
                    self._record(steps, replace(self.meta, pid=os.getpid(), started=process_start(os.getpid())))
            except BaseException:
                if not adopted:
                    with suppress(OSError):
                        self.pins.remove_folders()
                raise
        self._finish(desired, old)
        return self._state(adopted, scan)

    def prepare(self, bundle: Bundle | Desired) -> Prepared:
        """Have the kernel verify a policy for a later `swap`, which is then quick.

        It takes the time that verifying takes, and changes nothing: run it, or all of `swap`, in another thread.
        """
        desired = bundle if isinstance(bundle, Desired) else of(bundle)
        if self._base is None or self.meta is None:
            raise LoadError("nothing is loaded", hint="load a policy first")
        if desired.base_digest != self.meta.base_digest:
            raise self._other_data_plane()
        workloads.check(desired.workloads)
        return objects.prepare_policy(desired, self._base)

    def swap(self, new: Bundle | Desired | Prepared) -> State:
        """Replace the policy in force. Connections stay; the old version is freed when its last run has ended.

        What was prepared is used up, whether it succeeds or not.
        """
        prepared = new if isinstance(new, Prepared) else self.prepare(new)
        try:
            with self._changing, self.pins.locked():
                with Transaction(self.on_step) as steps:
                    scan, old = self._switch(steps, prepared)
                    assert self.meta is not None
                    self._record(steps, self.meta)
                self._finish(prepared.desired, old)
                return self._state(True, scan)
        finally:
            prepared.close()

    def unload(self) -> list[str]:
        """Remove the instance from the kernel by what is pinned, whoever loaded it; returns what was pinned.

        Nothing happens when nothing is loaded. `remaining` tells what another process still keeps.
        """
        features.require_privileges()
        self.close()
        if not self.pins.exists():
            return []
        with self.pins.locked():
            objects_before = removal.objects_of(self.pins)
            removed = removal.purge(self.pins)
            self.pins.remove_folders()
        self.remaining = removal.wait_gone(objects_before, GONE_SECONDS)
        return removed

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- the steps --------------------------------------------------------------------------------

    def _check_adoption(self, desired: Desired, cgroup: str, take_over: bool) -> None:
        meta = self.pins.read_meta()
        assert meta is not None
        if meta.pid != os.getpid() and meta.owner_alive and not take_over:
            raise LoadError(
                f"instance '{self.instance}' is in use by process {meta.pid}",
                hint="stop that first, or choose another --instance",
            )
        if meta.base_digest != desired.base_digest:
            raise self._other_data_plane()
        if meta.cgroup != cgroup:
            raise LoadError(f"instance '{self.instance}' is loaded for {meta.cgroup}, not {cgroup}", hint=_UNLOAD)
        if self.target("connect4") != workloads.cgroup_id(cgroup):
            raise LoadError(f"{cgroup} was removed and made again since the load", hint=_UNLOAD)

    def _other_data_plane(self) -> LoadError:
        return LoadError(
            f"instance '{self.instance}' was loaded for another data plane than this bundle's", hint=_UNLOAD
        )

    def _install(self, steps: Transaction, desired: Desired, cgroup: str) -> None:
        """A fresh base in a folder that is empty, or that a killed load left behind."""
        steps.on_undo("remove what was loaded", self._remove_all)
        if any(self.pins.names(kind) for kind in ("links", "progs", "maps")):
            steps.step("remove the rest of an interrupted load", self._remove_all)
        steps.step("look for other instances", lambda: links.refuse_overlap(cgroup, self.bpffs))
        base = steps.step("load the base", lambda: objects.load_base(desired.base_object))
        steps.on_undo("close the base", lambda: self.close() if self._base else base.close())
        base.maps[endpoints.MAP] = steps.step("create endpoint numbers", endpoints.create_map)
        for name, fd in base.maps.items():
            steps.step(f"pin map {name}", partial(self.pins.add, "maps", name, fd))
        for name in layout.KEPT_PROGRAMS:
            if name in base.hooks:
                steps.step(f"pin program {name}", partial(self.pins.add, "progs", name, base.hooks[name].fd))
        steps.step("fill connection ids", lambda: objects.fill_conn_ids(base))
        self._view(base)
        self.config["body_limit"][0] = abi.BODY_LIMIT
        self.meta = Meta(cgroup=cgroup, base_digest=desired.base_digest, policy_digest="", version=0, pid=0, started=0)

    def _switch(self, steps: Transaction, prepared: Prepared) -> tuple[Scan, PolicyVersion | None]:
        """Put a policy version into the array; returns the one it replaces, still open."""
        desired = prepared.desired
        meta, base, ids, old = self.meta, self._base, self._endpoint_ids, self._policy
        assert meta is not None
        assert base is not None
        version = meta.version + 1
        new = steps.step("number endpoints", lambda: ids.allocate(a for a in desired.endpoints if a))
        for address in new:
            steps.on_undo("number endpoints", partial(ids.release, address))
        scan = steps.step("find cgroups", lambda: workloads.scan(desired.workloads, mounts.cgroup2() or ""))
        sources = {number: workload_bits(desired.source_atoms, w) for number, w in scan.found.items()}
        known = ids.all()
        numbers = [known[a] if a else abi.NONE for a in desired.endpoints]
        policy = steps.step(
            "fill the tables",
            lambda: objects.fill_policy(prepared, version=version, endpoint_ids=numbers, sources=sources),
        )
        steps.on_undo("close the policy", policy.close)
        protect = desired.protect if self._protect else frozenset()
        removals = [
            self._reconcile(steps, "captured", dict.fromkeys(desired.capture | self._extra, 0)),
            self._reconcile(steps, "workload_cgroups", own_addresses(scan.found)),
            self._reconcile(steps, "protected", dict.fromkeys(protect, 1)),
        ]
        after = replace(meta, version=version, policy_digest=desired.policy_digest)

        def put(program: PolicyVersion | None, now: Meta, protected: bool) -> None:
            if program:
                sys.map_update(base.maps["policy"], bytes(4), struct.pack("<I", program.program))
            else:
                sys.map_delete(base.maps["policy"], bytes(4))
            self._policy, self.meta = program, now
            self.config["version"][0] = now.version
            self.config["protect"][0] = protected

        steps.on_undo("switch back", partial(put, old, meta, bool(self.config["protect"][0])))
        steps.step("switch to the new policy", partial(put, policy, after, self._protect))
        for remove in removals:
            remove()
        return scan, old

    def _attach(self, steps: Transaction, cgroup: str) -> None:
        base = self._base
        assert base is not None
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in layout.HOOKS:
                link = steps.step(f"attach {name}", partial(objects.attach, base, name, directory))
                if link is None:
                    continue
                try:
                    steps.step(f"pin link {name}", partial(self.pins.add, "links", name, link))
                finally:
                    os.close(link)
        finally:
            os.close(directory)
        base.keep(layout.KEPT_PROGRAMS)

    def _record(self, steps: Transaction, meta: Meta) -> None:
        steps.step("record what is loaded", lambda: self.pins.write_meta(meta))
        self.meta = meta

    def _finish(self, desired: Desired, old: PolicyVersion | None) -> None:
        if old:
            old.close()
        self._desired = desired

    def _state(self, adopted: bool, scan: Scan) -> State:
        assert self.meta is not None
        return State(
            instance=self.instance,
            cgroup=self.meta.cgroup,
            version=self.meta.version,
            adopted=adopted,
            endpoints=self._endpoint_ids.all(),
            missing_workloads=scan.missing,
        )

    def _remove_all(self) -> None:
        self.close()
        before = removal.objects_of(self.pins)
        removal.purge(self.pins)
        removal.wait_gone(before, GONE_SECONDS)
