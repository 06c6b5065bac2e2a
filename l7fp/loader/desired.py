"""What a bundle asks of the node: the loader's only view of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from l7fp.codegen.artifact import Bundle
from l7fp.codegen.sources import SourceAtom
from l7fp.ir.model import Workload
from l7fp.loader.codecs import Address, address_bytes, address_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Everything of one policy version that the kernel needs.

    `tables` are packed records by table name. `endpoints[i]` is what index i of the table `endpoints` stands for,
    None where it has no address yet (then the kernel sends nothing there). `capture` are the destinations under
    management, `protect` those that must not be reached around l7fp.
    """

    base_object: bytes
    policy_object: bytes
    tables: Mapping[str, bytes] = field(default_factory=dict)
    ports: Mapping[int, bytes] = field(default_factory=dict)
    source_atoms: tuple[SourceAtom, ...] = ()
    source_ip_atoms: tuple[str, ...] = ()
    endpoints: tuple[Address | None, ...] = ()
    capture: frozenset[Address] = frozenset()
    protect: frozenset[Address] = frozenset()
    workloads: tuple[Workload, ...] = ()

    @property
    def base_digest(self) -> str:
        """Of the base object: equal digests share pinned state."""
        return hashlib.sha256(self.base_object).hexdigest()

    @property
    def policy_digest(self) -> str:
        """Of the policy's object and tables."""
        digest = hashlib.sha256(self.policy_object)
        for name, data in sorted(self.tables.items()):
            digest.update(f"{name}:{len(data)}:".encode())
            digest.update(data)
        return digest.hexdigest()


def of(bundle: Bundle) -> Desired:
    """What `bundle` asks for. Captured are all services' addresses and all endpoints; the latter can be protected."""
    policy, plan = bundle.policy, bundle.plan
    services = {canonical(address, port) for s in policy.services for address in s.addresses for port in s.ports}
    endpoints = {canonical(e.address, e.port) for cluster in policy.clusters for e in cluster.endpoints}
    return Desired(
        base_object=bundle.base_object,
        policy_object=bundle.policy_object,
        tables=plan.tables,
        ports=plan.ports,
        source_atoms=plan.source_atoms,
        source_ip_atoms=plan.source_ip_atoms,
        endpoints=tuple(canonical(e.address, e.port) for e in plan.endpoints),
        capture=frozenset(address for address in services | endpoints if address),
        protect=frozenset(address for address in endpoints if address),
        workloads=policy.workloads,
    )


def canonical(address: str, port: int) -> Address | None:
    """The address as maps yield it back; None for what is no address (a host name, a block, a socket's path)."""
    try:
        return address_text(address_bytes(address)), port
    except ValueError:
        return None
