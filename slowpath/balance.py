"""Which endpoint of a cluster takes a request."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from l7fp.ir.model import Cluster, Endpoint, LoadBalancer
from slowpath.pool import Pool

_MAX_TURNS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """An endpoint in a cluster, with the pool of its address."""

    endpoint: Endpoint
    pool: Pool


def turns(weights: list[int]) -> list[int]:
    """Indexes in the order that round robin visits them: each as often as its weight, spread evenly.

    >>> turns([2, 1])
    [0, 1, 0]
    """
    divisor = gcd(*weights) or 1
    shares = [w // divisor for w in weights]
    total = sum(shares)
    if total > _MAX_TURNS:
        shares = [max(1, s * _MAX_TURNS // total) if s else 0 for s in shares]
        total = sum(shares)
    credit = [0] * len(shares)
    order = []
    for _ in range(total):
        credit = [c + s for c, s in zip(credit, shares, strict=True)]
        best = max(range(len(credit)), key=credit.__getitem__)
        credit[best] -= total
        order.append(best)
    return order


class Balancer:
    """Picks hosts of `cluster`. Hosts whose connects fail are passed over while another is left."""

    __slots__ = ("_hosts", "_kind", "_next", "_now", "_rand", "_turns", "cluster")

    def __init__(
        self, cluster: Cluster, pool: Callable[[Endpoint], Pool], now: Callable[[], float], rand: random.Random
    ) -> None:
        self.cluster = cluster
        self._hosts = [Host(e, pool(e)) for e in cluster.endpoints if e.weight > 0]
        self._turns = [self._hosts[i] for i in turns([h.endpoint.weight for h in self._hosts])] if self._hosts else []
        self._kind = cluster.load_balancer
        # Start anywhere, or many short-lived proxies would all begin with the first.
        self._next = rand.randrange(len(self._turns)) if self._turns else 0
        self._now = now
        self._rand = rand

    def __len__(self) -> int:
        return len(self._hosts)

    def pick(self, tried: Sequence[Host] = ()) -> Host | None:
        """A host, preferably none of `tried`; None where the cluster has none at all."""
        order = self._turns
        if not order:
            return None
        if tried:
            # Another try takes no turn: or with two hosts every first try would be at the same one.
            return self._detour(tried[-1], tried)
        if self._kind is LoadBalancer.ROUND_ROBIN:
            self._next = at = self._next + 1 if self._next + 1 < len(order) else 0
            host = order[at]
        else:
            at = int(self._rand.random() * len(order))
            host = order[at]
            if self._kind is LoadBalancer.LEAST_REQUEST and len(order) > 1:
                other = order[(at + 1 + int(self._rand.random() * (len(order) - 1))) % len(order)]
                if other.pool.active * host.endpoint.weight < host.pool.active * other.endpoint.weight:
                    host = other
        if host.pool.blocked(self._now()):
            return self._detour(host, ())
        return host

    def _detour(self, first: Host, tried: Sequence[Host]) -> Host:
        hosts = self._hosts
        start = hosts.index(first)
        ring = hosts[start + 1 :] + hosts[: start + 1]
        now = self._now()
        for host in ring:
            if host not in tried and not host.pool.blocked(now):
                return host
        for host in ring:
            if host not in tried:
                return host
        # All were tried: one of them may have come back.
        return next((host for host in ring if not host.pool.blocked(now)), ring[0])
