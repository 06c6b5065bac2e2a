"""Routing rules -> candidates, `rules`, `dests` and `clusters`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd

from l7fp import abi
from l7fp.codegen.authorization import Authorization
from l7fp.codegen.automaton import encode, pattern_of
from l7fp.codegen.edits import Edits, PathChange, UnplannableError, merge
from l7fp.codegen.programs import Candidate, PathTerm
from l7fp.codegen.replies import Part, answer
from l7fp.codegen.seen import Seen
from l7fp.codegen.tables import Tables
from l7fp.codegen.words import Reading, Test, Words
from l7fp.ir.model import (
    Cluster,
    Condition,
    Destination,
    DirectResponse,
    Endpoint,
    Field,
    FieldKind,
    LoadBalancer,
    Match,
    PathRewrite,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    Rule,
    StringKind,
    StringMatch,
)
from l7fp.ir.paths import is_plain, rewrite_hazards
from l7fp.source import NOWHERE

NO_ROUTE = "(no route)"
"""Counter of requests that no rule of their virtual host takes."""

MAX_ENDPOINT_ROWS = 256
MAX_DESTS = 64  # L7_MAX_DESTS in match.h
MAX_WEIGHT = 2**32 - 1  # of all destinations of a rule


@dataclass(frozen=True, slots=True)
class DestInfo:
    """Where a `dests` record comes from: destination `position` of rule `rule`."""

    rule: str
    position: int
    cluster: str


@dataclass(frozen=True, slots=True)
class _Matched:
    """What of the path a rewrite replaces: `strip` bytes of text `prefix`, in `any_case`.
    `strip` None is the whole path."""

    strip: int | None
    prefix: str = ""
    any_case: bool = False


_ALL = _Matched(None)
_HOST, _PATH, _QUERY = Part(abi.PartKind.HOST), Part(abi.PartKind.PATH), Part(abi.PartKind.QUERY)


_HOST_HAS_PORT = Condition(
    field=Field(FieldKind.AUTHORITY), any_of=(StringMatch(StringKind.CONTAINS, ":"),), negate=True
)


@dataclass(slots=True)
class Routes:
    """Plans the rules of all virtual hosts. `slow` names those that classification keeps from the kernel."""

    policy: Policy
    tables: Tables
    words: Words
    edits: Edits
    authorization: Authorization
    slow: frozenset[str]
    counters: dict[str, int] = field(default_factory=dict)
    clusters: dict[str, int] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)
    dests: list[DestInfo] = field(default_factory=list)
    demoted: dict[str, str] = field(default_factory=dict)
    _by_name: Mapping[str, Cluster] = field(default_factory=dict)
    _guards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {c.name: c for c in self.policy.clusters}
        self._guards = {w.name: w.policies for w in self.policy.workloads}

    def counter(self, name: str) -> int:
        """Index of the rule's counter."""
        return self.counters.setdefault(name, len(self.counters))

    def slow_record(self, name: str) -> int:
        """Index of the `rules` record that diverts the requests of rule `name`."""
        return self.tables.intern("rules", action=abi.RuleAction.SLOW, counter=self.counter(name))

    def candidates(self, rule: Rule, port: int) -> list[Candidate]:
        """What `rule` contributes to the first-match list of a virtual host on `port`."""
        self.counter(rule.name)
        matches = rule.matches or (Match(),)
        if rule.name not in self.slow and rule.name not in self.demoted:
            try:
                made = [c for match in matches for c in self._exact(rule, match, port)]
            except UnplannableError as e:
                self.demoted[rule.name] = str(e)
            else:
                return made
        return [c for match in matches for c in self._diverting(rule, match, port)]

    def _diverting(self, rule: Rule, match: Match, port: int) -> list[Candidate]:
        paths: list[PathTerm] = []
        tests: list[Test] = []
        for condition in match.conditions:
            reading = self._read(condition, port, over=True)
            if reading is False:
                return []
            if isinstance(reading, PathTerm):
                paths.append(reading)
            elif isinstance(reading, Test):
                tests.append(reading)
        return [Candidate(self.slow_record(rule.name), tuple(paths), tuple(tests))]

    def _exact(self, rule: Rule, match: Match, port: int) -> list[Candidate]:
        """The match's candidate, none if it never holds. Raises UnplannableError."""
        paths: list[PathTerm] = []
        tests: list[Test] = []
        for condition in match.conditions:
            reading = self._read(condition, port, over=False)
            match reading:
                case None:
                    raise UnplannableError(f"the kernel can't read {condition.field.kind.value} of this rule")
                case False:
                    return []
                case PathTerm():
                    paths.append(reading)
                case Test():
                    tests.append(reading)
                case _:
                    pass
        matched = _matched(match) if _replaces_prefix(rule) else _ALL
        if _may_drop_port(rule):
            # Host is copied whole, so one with a port is for the slow path
            portless = self.words.read(_HOST_HAS_PORT, port)
            if not isinstance(portless, Test):
                raise UnplannableError("too many conditions on Host")
            made = Candidate(self._record(rule, matched), tuple(paths), (*tests, portless))
            return [made, Candidate(self.slow_record(rule.name), tuple(paths), tuple(tests))]
        made = Candidate(self._record(rule, matched), tuple(paths), tuple(tests))
        hazards = self._hazards(rule, matched)
        if not hazards:
            return [made]
        guard = PathTerm(tuple(pattern_of(m) for m in hazards))
        return [Candidate(self.slow_record(rule.name), (*paths, guard), tuple(tests)), made]

    def _hazards(self, rule: Rule, matched: _Matched) -> list[StringMatch]:
        """Paths whose rewrite must be normalised, which only the slow path does. Raises UnplannableError."""
        rewrite = rule.action.path_rewrite if isinstance(rule.action, Route) else None
        if rewrite is None or rewrite.kind is RewriteKind.REGEX:
            return []
        if not is_plain(rewrite.value):
            raise UnplannableError("the new path needs normalisation")
        if rewrite.kind is RewriteKind.FULL or matched.strip is None:
            return []
        hazards = rewrite_hazards(matched.prefix, rewrite.value, self.policy.path_normalization)
        return [replace(m, ignore_case=matched.any_case) for m in hazards]

    def _read(self, condition: Condition, port: int, *, over: bool) -> Reading | PathTerm:
        if condition.field.kind is FieldKind.PATH:
            return Seen(port).read_path(condition, over=over)
        return self.words.read(condition, port, over=over)

    def _record(self, rule: Rule, matched: _Matched) -> int:
        counter = self.counter(rule.name)
        match rule.action:
            case Route():
                return self._route(rule, rule.action, matched)
            case Redirect():
                made = _redirect(self.tables, rule.action, matched)
            case DirectResponse():
                made = _direct(self.tables, rule.action)
        return self.tables.intern("rules", action=abi.RuleAction.REPLY, counter=counter, reply=made)

    def _route(self, rule: Rule, route: Route, matched: _Matched) -> int:
        path = _path_change(route.path_rewrite, matched)
        used = [(n, d) for n, d in enumerate(route.destinations) if d.weight > 0]
        if not used:
            raise UnplannableError("no destination has a weight")
        if len(used) > MAX_DESTS:
            raise UnplannableError(f"more than {MAX_DESTS} destinations")
        records, upto = [], 0
        for position, destination in used:
            upto += destination.weight
            records.append((position, self._dest(destination, route, path, matched, upto)))
        if upto > MAX_WEIGHT:
            raise UnplannableError(f"weights add up to more than {MAX_WEIGHT}")
        first = len(self.tables.rows["dests"])
        for position, record in records:
            self.tables.add("dests", **record)
            self.dests.append(DestInfo(rule.name, position, route.destinations[position].cluster))
        return self.tables.add(
            "rules",
            action=abi.RuleAction.FORWARD,
            counter=self.counter(rule.name),
            dest_first=first,
            dest_count=len(records),
            weight_total=upto,
            timeout_ms=route.timeout_ms or 0,
        )

    def _dest(
        self, to: Destination, route: Route, path: PathChange | None, matched: _Matched, upto: int
    ) -> dict[str, int]:
        request = merge((to.request_headers, route.request_headers))
        response = merge((to.response_headers, route.response_headers))
        prefix = None if matched.any_case else matched.prefix
        seen = Seen(self._endpoint_port(to.cluster), path, prefix, route.authority_rewrite, request)
        return {
            "weight_upto": upto,
            "cluster": self._cluster(to.cluster),
            "authz": self.authorization.group(
                self._guarding(to.cluster), seen, (to.response_headers, route.response_headers)
            ),
            "request_edit": self.edits.record(request, path=path, host=route.authority_rewrite),
            "response_edit": self.edits.record(response, response=True),
        }

    def _cluster(self, name: str) -> int:
        if name not in self.clusters:
            cluster = self._by_name.get(name)
            if cluster is not None and cluster.load_balancer is LoadBalancer.LEAST_REQUEST:
                raise UnplannableError("least-request balancing is for the slow path")
            rows = _weighted(cluster.endpoints) if cluster else []
            balance = abi.Balance.ROUND_ROBIN
            if cluster is not None and cluster.load_balancer is LoadBalancer.RANDOM:
                balance = abi.Balance.RANDOM
            first = len(self.endpoints)
            self.endpoints += rows
            self.tables.rows["endpoints"] += [bytes(4)] * len(rows)
            self.clusters[name] = self.tables.add("clusters", balance=balance, first=first, count=len(rows))
        return self.clusters[name]

    def _endpoint_port(self, cluster: str) -> int | None:
        """The port that every endpoint of the cluster has; None if they differ."""
        found = self._by_name.get(cluster)
        ports = {e.port for e in found.endpoints if e.weight > 0} if found else set()
        return ports.pop() if len(ports) == 1 else None

    def _guarding(self, cluster: str) -> tuple[str, ...]:
        """Policies that guard every endpoint of the cluster."""
        found = self._by_name.get(cluster)
        groups = {self._guards.get(e.workload, ()) for e in found.endpoints if e.weight > 0} if found else set()
        if len({frozenset(g) for g in groups}) > 1:
            raise UnplannableError("endpoints of one cluster are guarded by different policies")
        return min(groups, default=())


def _weighted(endpoints: tuple[Endpoint, ...]) -> list[Endpoint]:
    """Endpoints, each as often as its weight asks for."""
    share = gcd(*(e.weight for e in endpoints)) or 1
    if sum(e.weight // share for e in endpoints) > MAX_ENDPOINT_ROWS:
        raise UnplannableError("endpoint weights are too uneven")
    most = max((e.weight // share for e in endpoints), default=0)
    return [replace(e, span=NOWHERE) for nth in range(most) for e in endpoints if e.weight // share > nth]


def _replaces_prefix(rule: Rule) -> bool:
    match rule.action:
        case Route(path_rewrite=PathRewrite(kind=RewriteKind.PREFIX)):
            return True
        case Redirect(prefix_rewrite=str()):
            return True
        case _:
            return False


def _matched(match: Match) -> _Matched:
    """What a prefix rewrite of a rule with this match replaces (`ir.rewrite.matched_prefix`)."""
    found = [c for c in match.conditions if c.field.kind is FieldKind.PATH and not c.negate]
    if not found:
        return _Matched(1, "/")
    matchers = [m for m in found[0].any_of if isinstance(m, StringMatch)]
    if not any(m.kind in (StringKind.PREFIX, StringKind.PRESENT) for m in matchers):
        return _ALL
    if len(matchers) > 1:
        raise UnplannableError("what is replaced depends on which of several path matchers holds")
    if matchers[0].kind is StringKind.PRESENT:
        return _Matched(1, "/")
    return _Matched(len(encode(matchers[0].value)), matchers[0].value, matchers[0].ignore_case)


def _path_change(rewrite: PathRewrite | None, matched: _Matched) -> PathChange | None:
    if rewrite is None:
        return None
    match rewrite.kind:
        case RewriteKind.FULL:
            return PathChange(None, rewrite.value)
        case RewriteKind.PREFIX:
            return PathChange(matched.strip, rewrite.value)
        case RewriteKind.REGEX:
            raise UnplannableError("a regular expression rewrites the path")


def _redirect(tables: Tables, action: Redirect, matched: _Matched) -> int:
    location: list[str | Part] = [f"{action.scheme or 'http'}://", action.authority or _HOST]
    if action.port is not None:
        location.append(f":{action.port}")
    if action.path is not None:
        location.append(action.path)
    elif action.prefix_rewrite is not None:
        location.append(action.prefix_rewrite)
        if matched.strip is not None:
            location.append(Part(abi.PartKind.PATH, matched.strip))
    else:
        location.append(_PATH)
    if action.path is None or "?" not in action.path:
        location.append(_QUERY)
    return answer(tables, action.status, location=tuple(location), edits=(action.response_headers,))


def _direct(tables: Tables, action: DirectResponse) -> int:
    shows_url = action.status == 201 or 300 <= action.status < 400  # as Envoy does
    location: tuple[str | Part, ...] = ("http://", _HOST, _PATH, _QUERY) if shows_url else ()
    return answer(tables, action.status, body=action.body, location=location, edits=(action.response_headers,))


def _may_drop_port(rule: Rule) -> bool:
    """Whether the rule's answer has the request's Host without its port in it."""
    match rule.action:
        case Redirect(authority=None, port=port, scheme=scheme):
            return port is not None or scheme not in (None, "http")
        case _:
            return False
