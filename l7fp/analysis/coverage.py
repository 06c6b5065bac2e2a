"""Which rules the kernel enforces, which the slow path does, and why."""

from __future__ import annotations

from dataclasses import dataclass

from l7fp.ir.model import Policy
from l7fp.ir.passes.classify import Classification, Placement, Reason, Slow
from l7fp.source import Span


@dataclass(frozen=True, slots=True)
class Row:
    """One rule (`kind` "route") or authorization policy (`kind` "authorization"). No reasons: the kernel does it."""

    kind: str
    name: str
    span: Span
    reasons: tuple[Reason, ...]

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel enforces all of it."""
        return not self.reasons


def _reasons(placement: Placement) -> tuple[Reason, ...]:
    return placement.reasons if isinstance(placement, Slow) else ()


def rows(policy: Policy, classification: Classification) -> list[Row]:
    """Routing rules in the order of ports, virtual hosts and rules, then authorization policies by name.

    A rule that several ports or hosts share is listed once.
    """
    seen: dict[str, Row] = {}
    for table in policy.tables:
        for host in table.virtual_hosts:
            for rule in host.rules:
                row = Row("route", rule.name, rule.span, _reasons(classification.rules[rule.name]))
                seen.setdefault(rule.name, row)
    authz = [Row("authorization", p.name, p.span, _reasons(classification.authz[p.name])) for p in policy.authz]
    return [*seen.values(), *authz]
