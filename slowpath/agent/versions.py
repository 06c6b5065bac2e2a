"""Policy versions that transactions may still refer to: the response edits of (version, destination)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from l7fp.ir.model import HeaderEdits, Policy, Route

KEEP_VERSIONS = 16
KEEP_DESTINATIONS = 200_000  # of all versions together; more versions are kept as long as they are small

Edits = tuple[HeaderEdits, ...]


class Versions:
    """The last versions, oldest out first."""

    def __init__(self) -> None:
        self._versions: OrderedDict[int, list[Edits]] = OrderedDict()

    def add(self, version: int, policy: Policy, destinations: Sequence[tuple[str, int]]) -> None:
        """Version `version` is `policy`; record i of its table `dests` is destination `destinations[i]`:
        (rule name, position in the rule's route)."""
        routes = {
            rule.name: rule.action
            for table in policy.tables
            for host in table.virtual_hosts
            for rule in host.rules
            if isinstance(rule.action, Route)
        }
        self._versions[version] = [_edits(routes[rule], position) for rule, position in destinations]
        total = sum(map(len, self._versions.values()))
        while len(self._versions) > KEEP_VERSIONS and total > KEEP_DESTINATIONS:
            total -= len(self._versions.popitem(last=False)[1])

    def response_edits(self, version: int, dest: int) -> Edits | None:
        """Response edits in order of application: the destination's, then the route's. None if nobody knows."""
        edits = self._versions.get(version)
        return edits[dest] if edits is not None and dest < len(edits) else None


def _edits(route: Route, position: int) -> Edits:
    both = (route.destinations[position].response_headers, route.response_headers)
    return tuple(edits for edits in both if edits)
