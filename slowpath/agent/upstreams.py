"""The pools of all endpoints of the policy in force, and of earlier ones until they are at rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from slowpath.agent.kernel import Kernel
from slowpath.agent.namespaces import NamespaceTable
from slowpath.agent.pools import Pool, PoolOptions, Rules, Upstream
from slowpath.agent.slots import SlotIds

Address = tuple[str, int]


class Upstreams:
    """One pool per endpoint address. `on_readable` hears of everything that idle connections say."""

    def __init__(
        self,
        kernel: Kernel,
        namespaces: NamespaceTable,
        loop: asyncio.AbstractEventLoop,
        on_readable: Callable[[Upstream], None],
        options: PoolOptions,
        clients: Callable[[], int],
    ) -> None:
        self.ids = SlotIds()
        self._kernel = kernel
        self._rules = Rules(kernel, namespaces, loop, on_readable, self.ids.new, options, clients)
        self._pools: dict[Address, Pool] = {}
        self._leaving: dict[Address, Pool] = {}
        self._by_id: dict[int, Pool] = {}

    def want(self, addresses: Iterable[Address]) -> None:
        """From now on exactly these endpoints are offered."""
        wanted = set(addresses)
        for address in [a for a in self._pools if a not in wanted]:
            pool = self._pools.pop(address)
            pool.withhold()
            self._leaving[address] = pool
        for address in wanted - self._pools.keys():
            pool = self._leaving.pop(address) if address in self._leaving else Pool(self._rules, *address)
            self._pools[address] = self._by_id[pool.id] = pool
            pool.resume()
            pool.scan()
            pool.tick()

    def find(self, slot: int) -> Upstream | None:
        """The live connection of a slot."""
        pool = self._by_id.get(self._kernel.slots.endpoint[slot])
        return pool.live.get(slot) if pool is not None else None

    def tick(self) -> None:
        """See `Pool.tick`; also lets go of pools that are at rest."""
        for pool in self._pools.values():
            pool.tick()
        for address in [a for a, p in self._leaving.items() if not p.busy()]:
            pool = self._leaving.pop(address)
            del self._by_id[pool.id]
            pool.close()

    def scan(self) -> None:
        """Namespaces have changed, or time has passed."""
        for pool in self._pools.values():
            pool.scan()

    def rebuild(self) -> None:
        """The kernel has lost tokens."""
        for pool in self._pools.values():
            pool.rebuild()

    def withhold(self) -> None:
        """No new requests for any of them."""
        for pool in self._pools.values():
            pool.withhold()

    def close(self) -> None:
        """Drop everything."""
        for pool in self._by_id.values():
            pool.close()

    def status(self) -> list[dict[str, Any]]:
        """One entry per endpoint of the policy in force."""
        endpoints = self._kernel.endpoints
        return [
            {
                "address": pool.address,
                "port": pool.port,
                "id": pool.id,
                "local": pool.local,
                "usable": bool(endpoints.usable[pool.id]),
                "connections": len(pool.live),
                "busy": pool.busy(),
                "target": pool.target,
                "requests": endpoints.requests[pool.id],
                "failure": pool.failure,
            }
            for _, pool in sorted(self._pools.items())
        ]
