"""What a rule does with a request, held against what the kernel can do."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from l7fp.ir.edits import combine
from l7fp.ir.matching import address_key
from l7fp.ir.model import (
    Cluster,
    DirectResponse,
    FieldKind,
    HeaderEdits,
    LoadBalancer,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    Rule,
    StringKind,
    StringMatch,
)
from l7fp.ir.passes.reasons import Reason, make_reason
from l7fp.ir.paths import is_plain
from l7fp.source import NOWHERE, Span

MAX_EDITED_HEADERS = 8  # distinct headers that one edit removes or sets
MAX_REPLY_BYTES = 4096  # of a whole message
MAX_TOTAL_WEIGHT = 2**32 - 1  # of the destinations of a route
MAX_WEIGHTED_ROWS = 256  # table rows of one cluster: endpoints, each repeated by its weight
_REPLY_OVERHEAD = 160  # status line, content-length, content-type, server

FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

FREE_RETRIES = frozenset({"connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"})
"""Conditions that a pooled HTTP/1.1 connection never meets (the last one: while no codes are named)."""


class ActionLimits:
    """Answers for one policy: why a rule's action is not for the kernel."""

    def __init__(self, policy: Policy) -> None:
        self._clusters = {c.name: c for c in policy.clusters}
        self._guards = {w.name: frozenset(w.policies) for w in policy.workloads}
        looks_at_port = {
            p.name
            for p in policy.authz
            for rule in p.rules
            for match in (*rule.sources, *rule.operations, rule.when)
            if any(c.field.kind is FieldKind.DESTINATION_PORT for c in match.conditions)
        }
        self._port_policies = frozenset(looks_at_port)

    def reasons(self, rule: Rule) -> Iterator[Reason]:
        """All reasons of the rule's action."""
        match rule.action:
            case Route():
                yield from self._route(rule, rule.action)
            case Redirect():
                yield from _edits(rule.span, "response", rule.action.response_headers)
                if rule.action.prefix_rewrite is not None:
                    yield from _prefix(rule)
            case DirectResponse():
                yield from _direct(rule.span, rule.action)

    def _route(self, rule: Rule, route: Route) -> Iterator[Reason]:
        used = [d for d in route.destinations if d.weight > 0]
        if not used:
            yield make_reason("no-destination", rule.span)
        if sum(d.weight for d in used) > MAX_TOTAL_WEIGHT:
            yield make_reason("weights", rule.span, limit=MAX_TOTAL_WEIGHT)
        for destination in used:
            place = destination.span if destination.span != NOWHERE else rule.span
            yield from self._cluster(destination.cluster, place)
            yield from _edits(place, "request", destination.request_headers, route.request_headers)
            yield from _edits(place, "response", destination.response_headers, route.response_headers)
        if route.path_rewrite is not None:
            if route.path_rewrite.kind is RewriteKind.REGEX:
                yield make_reason("regex-rewrite", rule.span)
            elif not is_plain(route.path_rewrite.value):
                yield make_reason("rewrite-not-plain", rule.span, value=route.path_rewrite.value)
            if route.path_rewrite.kind is RewriteKind.PREFIX:
                yield from _prefix(rule)
        yield from _retries(rule.span, route)

    def _cluster(self, name: str, place: Span) -> Iterator[Reason]:
        cluster = self._clusters.get(name)
        if cluster is None:
            yield make_reason("unknown-cluster", place, cluster=name)
            return
        if cluster.load_balancer is LoadBalancer.LEAST_REQUEST:
            yield make_reason("least-request", place, cluster=name)
        for endpoint in cluster.endpoints:
            if address_key(endpoint.address) is None:
                yield make_reason("endpoint-name", place, cluster=name, address=endpoint.address)
                break
        if _weight_rows(cluster) > MAX_WEIGHTED_ROWS:
            yield make_reason("endpoint-weights", place, cluster=name)
        guards = {self._guards.get(e.workload, frozenset()) for e in cluster.endpoints}
        if len(guards) > 1:
            yield make_reason("mixed-authorization", place, cluster=name)
        elif guards and next(iter(guards)) & self._port_policies and len({e.port for e in cluster.endpoints}) > 1:
            yield make_reason("mixed-ports", place, cluster=name)


def _weight_rows(cluster: Cluster) -> int:
    share = gcd(*(e.weight for e in cluster.endpoints)) or 1
    return sum(e.weight // share for e in cluster.endpoints)


def _edits(place: Span, direction: str, *sequence: HeaderEdits) -> Iterator[Reason]:
    edits = combine(*sequence)
    changed = {*edits.remove, *(name for name, _ in edits.set)}
    if len(changed) > MAX_EDITED_HEADERS:
        yield make_reason("header-edits", place, limit=MAX_EDITED_HEADERS, direction=direction)
    written = (*edits.set, *edits.add)
    for name in sorted(changed | {name for name, _ in written}):
        if name in FRAMING_HEADERS or name.startswith(":"):
            yield make_reason("header-framing", place, name=name)
    for name, value in written:
        if "%" in value:
            yield make_reason("header-variable", place, name=name)


def _prefix(rule: Rule) -> Iterator[Reason]:
    for match in rule.matches:
        matchers = [
            m
            for c in match.conditions
            if c.field.kind is FieldKind.PATH and not c.negate
            for m in c.any_of
            if isinstance(m, StringMatch)
        ]
        certain = len(matchers) < 2 and all(m.kind in (StringKind.PREFIX, StringKind.EXACT) for m in matchers)
        if not certain:
            yield make_reason("rewrite-prefix", match.span if match.span != NOWHERE else rule.span)


def _retries(place: Span, route: Route) -> Iterator[Reason]:
    retry = route.retry
    if retry is None:
        return
    costly = [on for on in retry.on if on not in FREE_RETRIES]
    if retry.status_codes and "retriable-status-codes" in retry.on:
        costly.append("retriable-status-codes")
    if costly and retry.attempts > 0:
        yield make_reason("retry", place, on=", ".join(costly))
    limit = retry.per_try_timeout_ms
    if limit is not None and (route.timeout_ms is None or limit < route.timeout_ms):
        yield make_reason("per-try-timeout", place)


def _direct(place: Span, action: DirectResponse) -> Iterator[Reason]:
    yield from _edits(place, "response", action.response_headers)
    headers = (*action.response_headers.set, *action.response_headers.add)
    size = len(action.body.encode("utf-8", "surrogateescape"))
    size += sum(len((name + value).encode("utf-8", "surrogateescape")) + 4 for name, value in headers)
    if size + _REPLY_OVERHEAD > MAX_REPLY_BYTES:
        yield make_reason("reply-too-large", place, limit=MAX_REPLY_BYTES)
