"""Rules, virtual hosts and clusters made ready for decisions: what can be known before a request is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from l7fp.ir import edits as header_edits
from l7fp.ir.conditions import Predicate, Stance, compile_condition
from l7fp.ir.hosts import HostIndex
from l7fp.ir.model import (
    Cluster,
    Destination,
    Endpoint,
    FieldKind,
    HeaderEdits,
    Match,
    Route,
    RouteTable,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
)
from l7fp.ir.rewrite import compile_rewrite

Pick = Callable[[int], int]
"""`pick(n)` is an integer in [0, n)."""

_INDEX_FROM = 24  # matches of a virtual host from which looking them up by path beats asking one after another


class WeightedPick:
    """Items by weight. Those of weight 0 are never picked; without choice `pick` is not asked."""

    __slots__ = ("_items", "_total", "_upto")

    def __init__(self, items: Sequence[Destination] | Sequence[Endpoint]) -> None:
        self._items = [item for item in items if item.weight > 0]
        self._upto = list(accumulate(item.weight for item in self._items))
        self._total = self._upto[-1] if self._upto else 0

    def index(self, pick: Pick) -> int:
        """Place among the items that have weight, -1 when none has."""
        if len(self._items) < 2:
            return len(self._items) - 1
        at = pick(self._total)
        for place, upto in enumerate(self._upto):
            if at < upto:
                return place
        return len(self._upto) - 1


class CompiledDestination:
    """One destination with weight: the edits on the way there and back, the destination's own first."""

    __slots__ = ("destination", "request_edits", "response_edits")

    def __init__(self, destination: Destination, route: Route) -> None:
        self.destination = destination
        self.request_edits = _useful(destination.request_headers, route.request_headers)
        self.response_edits = _useful(destination.response_headers, route.response_headers)

    def edit(self, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Request headers as they go upstream."""
        for edits in self.request_edits:
            headers = header_edits.apply(edits, headers)
        return headers


def _useful(*sequence: HeaderEdits) -> tuple[HeaderEdits, ...]:
    return tuple(edits for edits in sequence if edits)


class CompiledMatch:
    """One match of one rule; `path_change` is the rule's rewrite as this match has it."""

    __slots__ = ("choice", "destinations", "index", "match", "path_change", "predicates", "rule")

    def __init__(self, rule: Rule, index: int) -> None:
        self.rule = rule
        self.index = index
        self.match: Match | None = rule.matches[index] if index >= 0 else None
        conditions = self.match.conditions if self.match is not None else ()
        self.predicates: tuple[Predicate, ...] = tuple(compile_condition(c, Stance.ROUTE) for c in conditions)
        route = rule.action if isinstance(rule.action, Route) else None
        rewrite = route.path_rewrite if route is not None else None
        self.path_change = compile_rewrite(rewrite, self.match) if rewrite is not None else None
        to = route.destinations if route is not None else ()
        self.choice = WeightedPick(to)
        self.destinations = [CompiledDestination(d, route) for d in to if route is not None and d.weight > 0]


class CompiledHost:
    """One virtual host: all matches of all its rules in first-match order."""

    __slots__ = ("_anywhere", "_exact", "_lengths", "_prefix", "host", "matches")

    def __init__(self, host: VirtualHost) -> None:
        self.host = host
        self.matches = tuple(
            CompiledMatch(rule, index) for rule in host.rules for index in (range(len(rule.matches)) or (-1,))
        )
        self._anywhere: list[int] = []
        self._exact: dict[str, list[int]] = {}
        self._prefix: dict[str, list[int]] = {}
        if len(self.matches) >= _INDEX_FROM:
            self._build_index()
        self._lengths = sorted({len(value) for value in self._prefix})

    def candidates(self, path: str) -> Sequence[CompiledMatch]:
        """Matches in order, without those whose exact or prefix path condition `path` can't meet."""
        if len(self.matches) < _INDEX_FROM:
            return self.matches
        found = [*self._anywhere, *self._exact.get(path, ())]
        for length in self._lengths:
            if length > len(path):
                break
            found += self._prefix.get(path[:length], ())
        found.sort()
        return [self.matches[place] for place in found]

    def _build_index(self) -> None:
        for place, entry in enumerate(self.matches):
            keys = _path_keys(entry.match)
            if keys is None:
                self._anywhere.append(place)
                continue
            for kind, value in keys:
                (self._exact if kind is StringKind.EXACT else self._prefix).setdefault(value, []).append(place)


def _path_keys(match: Match | None) -> set[tuple[StringKind, str]] | None:
    """Exact and prefix values one of which a path must meet; None: any path may do."""
    for condition in match.conditions if match is not None else ():
        if condition.field.kind is not FieldKind.PATH or condition.negate:
            continue
        keys: set[tuple[StringKind, str]] = {
            (m.kind, m.value)
            for m in condition.any_of
            if isinstance(m, StringMatch) and m.kind in (StringKind.EXACT, StringKind.PREFIX) and not m.ignore_case
        }
        if len(keys) == len(set(condition.any_of)):
            return keys
    return None


class CompiledTable:
    """One route table."""

    __slots__ = ("hosts", "index")

    def __init__(self, table: RouteTable) -> None:
        self.index = HostIndex(table)
        self.hosts = tuple(CompiledHost(host) for host in table.virtual_hosts)


class CompiledCluster:
    """One cluster and the choice among its endpoints."""

    __slots__ = ("_choice", "_usable", "cluster")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._usable = [e for e in cluster.endpoints if e.weight > 0]
        self._choice = WeightedPick(cluster.endpoints)

    def endpoint(self, pick: Pick) -> Endpoint | None:
        """An endpoint by weight, None when there is none."""
        place = self._choice.index(pick)
        return self._usable[place] if place >= 0 else None
