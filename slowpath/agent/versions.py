"""Policy versions that transactions may still refer to: the response edits of (version, rule, destination)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from l7fp import abi
from l7fp.ir.model import NO_EDITS, HeaderEdits, Policy, Route, Rule

KEEP_VERSIONS = 16
KEEP_RULES = 200_000  # of all versions together; more versions are kept as long as they are small
_RULE = abi.BY_NAME["rule"]


class Versions:
    """The last versions, oldest out first."""

    def __init__(self) -> None:
        self._versions: OrderedDict[int, list[tuple[Rule | None, int]]] = OrderedDict()
        self.timeouts = False  # whether a rule of any version so far has one

    def add(self, version: int, policy: Policy, tables: Mapping[str, bytes], rule_names: Sequence[str]) -> None:
        """Version `version` is `policy` with these kernel tables; `rule_names` are in the order of counters."""
        named = {rule.name: rule for table in policy.tables for host in table.virtual_hosts for rule in host.rules}
        rules: list[tuple[Rule | None, int]] = []
        for at in range(0, len(tables["rules"]), _RULE.size):
            record = _RULE.unpack(tables["rules"][at : at + _RULE.size])
            counter, first = record["counter"], record["dest_first"]
            assert isinstance(counter, int)
            assert isinstance(first, int)
            rules.append((named.get(rule_names[counter]) if counter < len(rule_names) else None, first))
            self.timeouts = self.timeouts or bool(record["timeout_ms"])
        self._versions[version] = rules
        total = sum(map(len, self._versions.values()))
        while len(self._versions) > KEEP_VERSIONS and total > KEEP_RULES:
            total -= len(self._versions.popitem(last=False)[1])

    def response_edits(self, version: int, rule: int, dest: int) -> tuple[HeaderEdits, ...] | None:
        """Response edits in order of application: the destination's, then the route's. None if the version is
        no longer known."""
        rules = self._versions.get(version)
        if rules is None or rule >= len(rules):
            return None
        source, first = rules[rule]
        if source is None or not isinstance(source.action, Route):
            return ()
        destinations = source.action.destinations
        mine = destinations[dest - first].response_headers if 0 <= dest - first < len(destinations) else NO_EDITS
        return tuple(edits for edits in (mine, source.action.response_headers) if edits)
