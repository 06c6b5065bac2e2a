"""Many policies of the corpus as one, for executors that take long to set up: each gets a service port of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from l7fp.ir.model import (
    AuthzPolicy,
    Cluster,
    Destination,
    Endpoint,
    Policy,
    PortMatch,
    RouteTable,
    Rule,
    Service,
    VirtualHost,
    Workload,
)
from tests.conformance.corpus import Case
from tests.conformance.transform import transform

FIRST_PORT = 18000
_TABLE = 80  # the only one that is kept


@dataclass(frozen=True, slots=True)
class Merged:
    """One service at `address` on the ports `ports`. `home`: endpoint address -> (cluster, original address)."""

    policy: Policy
    ports: Mapping[Policy, int]
    home: Mapping[str, tuple[str, str]]

    def case(self, case: Case) -> Case:
        """The case under the merged policy. Its source has the merged name."""
        port, source = self.ports[case.policy], case.request.source
        if source.workload:
            source = replace(source, workload=_prefix(port) + source.workload)
        return replace(case, policy=self.policy, request=replace(case.request, port=port, source=source))


def merge(
    policies: Iterable[Policy], *, address: str, backend_port: int, cgroup: Callable[[Policy, Workload], str]
) -> Merged:
    """`policies`, all of one path mode, each with its table of port 80 alone.

    Endpoints move to 127.67.x.y:`backend_port`. `cgroup` tells that of a workload, empty for none.
    """
    ports: dict[Policy, int] = {}
    home: dict[str, tuple[str, str]] = {}
    parts: list[Policy] = []
    for number, policy in enumerate(policies):
        port = ports[policy] = FIRST_PORT + number
        parts.append(_renamed(policy, port, cgroup, home, backend_port))
    service = Service(host="conformance", namespace="default", addresses=(address,), ports=tuple(ports.values()))
    merged = Policy(
        tables=tuple(t for p in parts for t in p.tables),
        clusters=tuple(c for p in parts for c in p.clusters),
        services=(service,),
        workloads=tuple(w for p in parts for w in p.workloads),
        authz=tuple(a for p in parts for a in p.authz),
        path_normalization=parts[0].path_normalization,
    )
    assert all(p.path_normalization is merged.path_normalization for p in parts)
    return Merged(merged, ports, home)


def _prefix(port: int) -> str:
    return f"{port}."


def _renamed(
    policy: Policy,
    port: int,
    cgroup: Callable[[Policy, Workload], str],
    home: dict[str, tuple[str, str]],
    backend_port: int,
) -> Policy:
    prefix = _prefix(port)

    def move(cluster: Cluster, endpoint: Endpoint) -> Endpoint:
        address = f"127.67.{len(home) // 200}.{len(home) % 200 + 1}"
        home[address] = cluster.name, endpoint.address
        workload = endpoint.workload and prefix + endpoint.workload
        return replace(endpoint, address=address, port=backend_port, workload=workload)

    def change(node: object) -> object:
        match node:
            case RouteTable():
                return replace(node, port=port)
            case Rule() | VirtualHost():
                return replace(node, name=prefix + node.name)
            case AuthzPolicy():
                return replace(node, name=prefix + node.name)
            case Destination():
                return replace(node, cluster=prefix + node.cluster)
            case Cluster():
                endpoints = tuple(move(node, e) for e in node.endpoints)
                return replace(node, name=prefix + node.name, endpoints=endpoints)
            case Workload():
                policies = tuple(prefix + name for name in node.policies)
                return replace(node, name=prefix + node.name, policies=policies, cgroup=cgroup(policy, node))
            case PortMatch() if node.port == _TABLE:
                return PortMatch(port)
        return node

    kept = replace(policy, tables=tuple(t for t in policy.tables if t.port == _TABLE), services=())
    return transform(kept, change)
