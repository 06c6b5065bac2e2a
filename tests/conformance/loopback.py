"""A policy moved to loopback addresses, one for each endpoint of each cluster, and the way back.

So nothing leaves the machine, and an address tells which cluster and endpoint were chosen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from l7fp.ir.model import CidrMatch, Condition, FieldKind, Matcher, Policy
from tests.conformance import backend, wire
from tests.conformance.corpus import Case, Outcome
from tests.conformance.transform import transform


@dataclass(frozen=True, slots=True)
class Moved:
    """`home`: loopback address -> (cluster, address in the original policy)."""

    policy: Policy
    home: dict[str, tuple[str, str]]

    def outcome(self, response: wire.Message, rule: str | None = None) -> Outcome:
        """What client and backend saw, in terms of the original policy."""
        told = backend.seen(response)
        if told is None:
            body = response.body.decode("utf-8", "surrogateescape")
            return Outcome(forward=None, status=int(response.words[1]), body=body, rule=rule, reply=response.headers)
        address, request = told
        cluster, endpoint = self.home[address]
        return Outcome(
            forward=cluster,
            status=None,
            endpoint=endpoint,
            rule=rule,
            path=request.words[1],
            authority=request.get("host"),
            sent=request.headers,
            reply=response.headers,
        )


@cache
def move(policy: Policy) -> Moved:
    """`policy` with its endpoints, and what authorization says of their addresses, on loopback."""
    home: dict[str, tuple[str, str]] = {}
    clusters = []
    for i, cluster in enumerate(policy.clusters):
        places = [f"127.66.{i}.{j}" for j in range(1, len(cluster.endpoints) + 1)]
        home.update({place: (cluster.name, e.address) for place, e in zip(places, cluster.endpoints, strict=True)})
        moved = (replace(e, address=place) for place, e in zip(places, cluster.endpoints, strict=True))
        clusters.append(replace(cluster, endpoints=tuple(moved)))

    def matchers(any_of: tuple[Matcher, ...]) -> Iterator[Matcher]:
        for matcher in any_of:
            network = ipaddress.ip_network(matcher.network) if isinstance(matcher, CidrMatch) else None
            inside = [p for p, (_, address) in home.items() if network and ipaddress.ip_address(address) in network]
            yield from (CidrMatch(f"{place}/32") for place in inside) if inside else (matcher,)

    def change(node: object) -> object:
        if isinstance(node, Condition) and node.field.kind is FieldKind.DESTINATION_IP:
            return replace(node, any_of=tuple(matchers(node.any_of)))
        return node

    return Moved(replace(policy, clusters=tuple(clusters), authz=transform(policy.authz, change)), home)


def addresses(cases: Iterable[Case]) -> list[str]:
    """All that the policies of these cases are moved to."""
    return sorted({place for policy in {case.policy for case in cases} for place in move(policy).home})
