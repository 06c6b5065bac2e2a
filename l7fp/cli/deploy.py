"""Bundles as what the loader and the agent take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l7fp.codegen.artifact import Bundle
    from slowpath.agent.deployment import Deployment


def is_bundle(path: str) -> bool:
    """Whether a file is meant to be a bundle rather than policy text."""
    return Path(path).suffix == ".l7fp"


def read(path: str) -> Deployment:
    """The bundle at `path`, ready to be deployed. `ArtifactError` if it is none that this version can use."""
    from l7fp.codegen import artifact

    return deployment(artifact.read(path))


def deployment(bundle: Bundle) -> Deployment:
    """Both halves of a bundle. Captured are all services' addresses and all endpoints; the endpoints are protected."""
    from l7fp.loader.desired import Desired, canonical
    from slowpath.agent.deployment import Deployment

    plan, policy = bundle.plan, bundle.policy
    endpoints = tuple(canonical(e.address, e.port) for e in plan.endpoints)
    services = {canonical(address, port) for s in policy.services for address in s.addresses for port in s.ports}
    desired = Desired(
        base_object=bundle.base_object,
        policy_object=bundle.policy_object,
        tables=plan.tables,
        ports=plan.ports,
        source_atoms=plan.source_atoms,
        source_ip_atoms=plan.source_ip_atoms,
        endpoints=endpoints,
        capture=frozenset(a for a in services | set(endpoints) if a is not None),
        protect=frozenset(a for a in endpoints if a is not None),
        workloads=policy.workloads,
    )
    destinations = tuple((d.rule, d.position) for d in plan.dests)
    return Deployment(policy=policy, desired=desired, rules=plan.rule_names, destinations=destinations)
