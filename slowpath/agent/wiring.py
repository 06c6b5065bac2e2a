"""Everything the agent consists of, wired together around one loaded instance."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from l7fp import abi
from l7fp.abi import EventType
from l7fp.ir.model import Policy
from l7fp.loader.loader import Loader
from slowpath.agent.adopt import Transactions
from slowpath.agent.connections import Connections
from slowpath.agent.connector import AgentConnector
from slowpath.agent.deadlines import Deadlines
from slowpath.agent.deployment import AgentOptions, Deployment
from slowpath.agent.events import Events
from slowpath.agent.flows import Attribution
from slowpath.agent.ledger import IdleWatch
from slowpath.agent.listeners import Listeners
from slowpath.agent.loaded import LoadedKernel
from slowpath.agent.namespaces import NamespaceTable
from slowpath.agent.upstreams import Address, Upstreams
from slowpath.agent.versions import Versions
from slowpath.proxy import ProxyServer

_FAST_TICK_S = 0.020
_POOL_TICK_S = 0.050
_SCAN_S = 1.0
_RECLAIM_S = 5.0
_DIVERT_REASONS = range(10, 50)


class Wiring:
    """Made when the maps are there and nothing is captured yet; `prepare` makes what capture needs, `start` the rest.

    Must live on the running loop's thread.
    """

    def __init__(
        self, loader: Loader, namespaces: NamespaceTable, deployment: Deployment, options: AgentOptions
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._loader = loader
        self._options = options
        self._started_at = time.time()
        self._push_lost = 0
        self._timers: list[asyncio.TimerHandle] = []
        self.deployment = deployment
        self.kernel = kernel = LoadedKernel(loader)
        self.versions = Versions()
        self._watch = IdleWatch(loop)
        self._attribution = Attribution({})
        self.proxy = ProxyServer(
            deployment.policy, AgentConnector(namespaces, kernel.tag_upstream), options=options.proxy
        )
        self.transactions = Transactions(kernel, self.versions.response_edits)
        self.upstreams = Upstreams(
            kernel, namespaces, loop, self.transactions.readable, options.pools, lambda: len(self.connections.live)
        )
        self.connections = Connections(
            kernel, self._attribution, self._watch, self.proxy.serve, self.transactions.client_gone
        )
        self.transactions.bind(self.connections, self.upstreams)
        self.listeners = Listeners(kernel, namespaces, loop, self.connections.accept, protect=options.protect)
        self._deadlines = Deadlines(kernel, loop, lambda: self.upstreams.ids.highest)
        self.events = Events(
            kernel,
            loop,
            {
                EventType.NO_LISTENER: lambda e: self._refused(e.conn),
                EventType.RESET: lambda e: self.connections.abort(e.conn),
                EventType.TIMEOUT: lambda e: self.transactions.timed_out(e.slot, e.conn),
                EventType.TIMEOUT_LATE: lambda e: self.transactions.timed_out_late(e.slot, e.conn),
            },
        )

    # -- life

    def prepare(self) -> None:
        """Sort out what an earlier agent left behind, and listen."""
        slots = self.kernel.slots
        for slot, state in enumerate(slots.state.tolist()):
            if state or slots.requests[slot]:
                slots.state[slot] = abi.SlotFlag.DEAD
        self.connections.recover()
        self.listeners.scan()

    def start(self) -> None:
        """The policy is in force and captures: begin to serve."""
        self.adopt_version(self.deployment)
        self.events.start()
        self._deadlines.start()
        self._every(_FAST_TICK_S, self.connections.tick)
        self._every(_POOL_TICK_S, self.upstreams.tick)
        self._every(_SCAN_S, self._scan)
        self._every(_RECLAIM_S, self.connections.reclaim)

    def expect_version(self, deployment: Deployment) -> None:
        """The loader is about to put `deployment` in force."""
        self.versions.add(self.version + 1, deployment.policy, deployment.destinations)

    def adopt_version(self, deployment: Deployment) -> int:
        """The loader has put `deployment` in force; the slow half follows. Returns its version."""
        version = self.version
        self.deployment = deployment
        self.versions.add(version, deployment.policy, deployment.destinations)
        self.proxy.set_policy(deployment.policy)
        self.identify()
        self.upstreams.want(endpoints(deployment.policy))
        return version

    async def drain(self, timeout: float) -> None:
        """No new requests for the kernel; what is under way ends, and every connection with it."""
        self.proxy.draining = True
        self.upstreams.withhold()
        await self.connections.drain(timeout)
        await self.proxy.close()

    def close(self) -> None:
        """Let go of everything at once."""
        for timer in self._timers:
            timer.cancel()
        self._deadlines.close()
        self._watch.close()
        self.events.close()
        self.listeners.close()
        self.upstreams.close()

    def _every(self, period: float, action: Callable[[], object]) -> None:
        at = len(self._timers)

        def again() -> None:
            self._timers[at] = self._loop.call_later(period, again)
            action()

        self._timers.append(self._loop.call_later(period, again))

    # -- what changes meanwhile

    def _scan(self) -> None:
        self.listeners.scan()
        self.upstreams.scan()
        self.connections.check_flags()
        lost = self.kernel.stats().get(abi.Reason.POOL_PUSH_LOST, 0)
        if lost != self._push_lost:
            self._push_lost = lost
            self.upstreams.rebuild()

    def _refused(self, pid: int) -> None:
        if self.listeners.admit_pid(pid):
            self.upstreams.scan()

    def identify(self) -> None:
        """Find the cgroups that the policy's workloads have now."""
        found = self.kernel.workloads()
        if found != self._attribution.workloads:
            self._attribution.replace(found)

    # -- looking

    @property
    def version(self) -> int:
        """Of the policy in force."""
        meta = self._loader.meta
        assert meta is not None
        return meta.version

    def status(self) -> dict[str, Any]:
        """Everything of interest as plain data."""
        counts = self.kernel.stats()
        named = {reason: counts[reason] for reason in abi.Reason if reason in counts}
        rules = zip(self.deployment.rules, self._loader.rule_counters(), strict=False)
        return {
            "instance": self._loader.instance,
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self._started_at, 3),
            "version": self.version,
            "connections": len(self.connections.live),
            "stats": {reason.name.lower(): n for reason, n in named.items()},
            "diverted": {reason.name.lower(): n for reason, n in named.items() if reason in _DIVERT_REASONS},
            "rules": [{"name": name, "forwarded": f, "replied": r, "diverted": d} for name, (f, r, d) in rules],
            "endpoints": self.upstreams.status(),
            "namespaces": self.listeners.status(),
            "transactions": asdict(self.transactions.counters),
            "clients": asdict(self.connections.counters),
            "events": {EventType(kind).name.lower(): n for kind, n in self.events.counts.items()},
            "proxy": self.proxy.stats.snapshot(),
        }


def endpoints(policy: Policy) -> list[Address]:
    """Addresses of all endpoints, each once."""
    return sorted({(e.address, e.port) for cluster in policy.clusters for e in cluster.endpoints})
