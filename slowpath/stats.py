"""Counters of the proxy. Plain numbers; whoever wants them takes a snapshot."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


def _counter() -> defaultdict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Stats:
    """`outcomes` counts finished requests by response-code details (`via_upstream`, `rbac_access_denied`,
    ...), `statuses` by class (`2xx`), `rules` by rule name, `upstream_failures` by cause."""

    rules: defaultdict[str, int] = field(default_factory=_counter)
    outcomes: defaultdict[str, int] = field(default_factory=_counter)
    statuses: list[int] = field(default_factory=lambda: [0] * 10)
    upstream_failures: defaultdict[str, int] = field(default_factory=_counter)
    retries: int = 0
    connections_total: int = 0
    connections_active: int = 0
    requests_active: int = 0
    tunnels: int = 0

    def snapshot(self) -> dict[str, object]:
        """A copy as JSON-able values, keys sorted."""
        return {
            "connections": {"active": self.connections_active, "total": self.connections_total},
            "outcomes": dict(sorted(self.outcomes.items())),
            "requests": {"active": self.requests_active, "total": sum(self.outcomes.values())},
            "retries": self.retries,
            "rules": dict(sorted(self.rules.items())),
            "statuses": {f"{i}xx": n for i, n in enumerate(self.statuses) if n},
            "tunnels": self.tunnels,
            "upstream_failures": dict(sorted(self.upstream_failures.items())),
        }
