"""The corpus on real sockets: captured clients, the programs, the agent and its proxy, a server that tells what it saw.

Sockets have their own addresses and services their own ports, so only cases that don't depend on those take part.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from l7fp.ir import passes
from l7fp.ir.model import Destination, PathNormalization, Policy, Route, Workload
from l7fp.loader import mounts
from tests.conformance import wire
from tests.conformance.corpus import UPSTREAM_HEADERS, Case, Diverted, Outcome, cases, check, is_wanted
from tests.conformance.host import HostExecutor
from tests.conformance.interpreter import choices, decide
from tests.conformance.loopback import Moved
from tests.conformance.merge import merge
from tests.conformance.transform import transform
from tests.kernel.world import VIP, Client, World, free_port

_REPOSITORY = Path(__file__).resolve().parents[2]
_TRIES = 200  # a destination of 10 % is missed by all of them once in 10^9 runs


def playable(case: Case) -> bool:
    """Whether the case means the same with a client at 127.0.0.1 and a service of another port."""
    request = case.request
    if case.policy.path_normalization is not PathNormalization.BASE or request.port != 80 or request.destination_ip:
        return False
    if request.source.conflict or (not request.source.workload and request.source.ip):
        return False
    draw = choices(case)
    if any(of > _TRIES for _, of in filter(None, (draw.destination, draw.endpoint))):
        return False  # chance can't be told what to draw here
    local = replace(case, request=replace(request, source=replace(request.source, ip="127.0.0.1")))
    before, after = decide(case.policy, case), decide(case.policy, local)
    return (before.kind, before.status, before.cluster) == (after.kind, after.status, after.cluster)


def source(case: Case) -> tuple[int, str]:
    """What decides about a client's cgroup."""
    return (id(case.policy), case.request.source.workload) if case.request.source.workload else (0, "")


class Node:
    """The merged policy in force in a `World`."""

    def __init__(self, world: World, chosen: list[Case]) -> None:
        self.world = world
        self.cgroups = dict.fromkeys(map(source, chosen), world.clients)
        for number, key in enumerate(self.cgroups):
            if key[1]:
                self.cgroups[key] = world.cgroup.child(f"client-{number}")
        self.port = free_port()
        policies = list(dict.fromkeys(case.policy for case in chosen))
        merged = merge(policies, address=VIP, backend_port=self.port, cgroup=self._cgroup)
        self.merged = replace(merged, policy=passes.run(merged.policy))
        self.moved = Moved(self.merged.policy, dict(self.merged.home))

    def _cgroup(self, policy: Policy, workload: Workload) -> str:
        found = self.cgroups.get((id(policy), workload.name))
        root = mounts.cgroup2()
        assert root is not None
        return str(found.path.relative_to(root)) if found else ""

    def start(self) -> None:
        argv = [sys.executable, "-m", "tests.conformance.backend", str(self.port), *self.merged.home]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
        process = self.world.servers.popen(argv, cwd=_REPOSITORY, env=environment, **pipes)
        self.world.processes.append(process)
        assert process.stdout.readline() == b"ready\n"
        self.world.start(self.merged.policy, usable=len(self.merged.home))

    def play(self, chosen: Iterable[Case]) -> Iterator[tuple[Case, Outcome, int]]:
        """Cases of one source, each with its outcome and how many requests the kernel served for it."""
        connections: dict[int, Client] = {}
        for case in chosen:
            port, draw = self.merged.ports[case.policy], choices(case)
            before = self.served()
            for _ in range(_TRIES if draw.destination or draw.endpoint else 1):
                if port not in connections:
                    connections[port] = self.world.connect(VIP, port)
                response = wire.ask(connections[port].sock, case.raw)
                if response.get("connection") == "close":
                    del connections[port]
                outcome = self.moved.outcome(response)
                if is_wanted(case, outcome):
                    break
            yield case, outcome, self.served() - before

    def served(self) -> int:
        stats = self.world.status()["stats"]
        return int(stats.get("forwarded", 0)) + int(stats.get("replied", 0))


def edits_repeated_headers(policy: Policy) -> bool:
    """Whether it edits a header that upstreams send twice: the agent relays such answers."""
    found: set[str] = set()

    def change(node: object) -> object:
        if isinstance(node, Route | Destination):
            edits = node.response_headers
            found.update(edits.remove, *((n for n, _ in pairs) for pairs in (edits.set, edits.add)))
        return node

    transform(policy, change)
    names = [name for name, _ in UPSTREAM_HEADERS]
    return any(names.count(name) > 1 for name in found)


@pytest.mark.parametrize(("adopted", "least_fast", "least_slow"), [(False, 190, 60), (True, 12, 1)])
def test_the_corpus_on_real_sockets(world: World, adopted: bool, least_fast: int, least_slow: int) -> None:
    mine = (case for case in cases() if playable(case) and edits_repeated_headers(case.policy) is adopted)
    chosen = sorted(mine, key=source)
    node = Node(world, chosen)
    node.start()
    wrong, fast = [], 0
    for key, group in groupby(chosen, source):
        with world.client(node.cgroups[key]):
            for case, outcome, served in node.play(group):
                fast += bool(served)
                expected = not isinstance(HostExecutor().run(node.merged.case(case)), Diverted)
                if bool(served) is not expected:
                    wrong.append(f"{case.id}: served {served} times in the kernel, should be: {expected}")
                try:
                    check(case, outcome)
                except AssertionError as error:
                    wrong.append(f"{case.id}: {error}")
    assert not wrong, "\n".join(wrong)
    assert fast >= least_fast
    assert len(chosen) - fast >= least_slow
    assert bool(world.stat("adopted_response")) is adopted
