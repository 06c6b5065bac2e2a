"""Invariants of the IR: what every stage may rely on, checked between stages in tests and when IR is read.

A policy with broken invariants is a bug of whoever made it, not of the user.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from l7fp.errors import UnavailableError
from l7fp.ir.fields import FIELDS, ValueType
from l7fp.ir.matching import address_key, lower, re2_compile, template_parts
from l7fp.ir.model import (
    AuthzPolicy,
    CidrMatch,
    Condition,
    DirectResponse,
    FieldKind,
    HeaderEdits,
    Match,
    Matcher,
    Policy,
    PortMatch,
    Redirect,
    RewriteKind,
    Route,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
    Workload,
)
from l7fp.ir.rewrite import substitution_groups

MAX_REGEX_CHARS = 1024

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\0\r\n]")
_MATCHERS = {ValueType.TEXT: StringMatch, ValueType.ADDRESS: CidrMatch, ValueType.PORT: PortMatch}


def verify(policy: Policy) -> list[str]:
    """Invariants that do not hold, each as one line; empty when all do."""
    return list(_policy(policy))


def _policy(policy: Policy) -> Iterator[str]:
    yield from _sorted("tables", [t.port for t in policy.tables])
    yield from _sorted("clusters", [c.name for c in policy.clusters])
    yield from _sorted("services", [s.host for s in policy.services])
    yield from _sorted("workloads", [w.name for w in policy.workloads])
    yield from _sorted("authz", [p.name for p in policy.authz])
    clusters = {c.name for c in policy.clusters}
    rules: dict[str, Rule] = {}
    for table in policy.tables:
        where = f"table {table.port}"
        yield from _port(where, table.port)
        domains = Counter(d for host in table.virtual_hosts for d in host.domains)
        yield from (f"{where}: domain {d} is claimed {n} times" for d, n in domains.items() if n > 1)
        names = Counter(host.name for host in table.virtual_hosts)
        yield from (f"{where}: virtual host {name} is there {n} times" for name, n in names.items() if n > 1)
        for host in table.virtual_hosts:
            yield from _virtual_host(f"{where} virtual host {host.name}", host)
            for rule in host.rules:
                known = rules.setdefault(rule.name, rule)
                if known != rule:
                    yield f"two different rules are named {rule.name}"
                elif known is rule:
                    yield from _rule(rule, clusters)
    for cluster in policy.clusters:
        for end in cluster.endpoints:
            yield from _port(f"cluster {cluster.name} endpoint {end.address}", end.port)
            if end.weight < 0:
                yield f"cluster {cluster.name} endpoint {end.address}: weight {end.weight}"
    workloads = {w.name for w in policy.workloads}
    used = {e.workload for c in policy.clusters for e in c.endpoints if e.workload}
    yield from (f"endpoint names unknown workload {name}" for name in sorted(used - workloads))
    for workload in policy.workloads:
        yield from _workload(workload, {p.name for p in policy.authz})
    for authz in policy.authz:
        yield from _authz(authz)


def _sorted(what: str, keys: list[str] | list[int]) -> Iterator[str]:
    for before, after in itertools.pairwise(keys):
        if not before < after:  # type: ignore[operator]
            yield f"{what} are not sorted and distinct: {before}, {after}"


def _port(where: str, port: int) -> Iterator[str]:
    if not 0 < port < 65536:
        yield f"{where}: {port} is not a port"


def _virtual_host(where: str, host: VirtualHost) -> Iterator[str]:
    for domain in host.domains:
        if domain != lower(domain) or not domain or "*" in domain[1:] or domain.endswith("."):
            yield f"{where}: {domain!r} is not a domain"
        if domain.startswith("*") and domain != "*" and not domain.startswith("*."):
            yield f"{where}: {domain!r} has a wildcard that is no label"
    for address in host.addresses:
        if address_key(address) is None:
            yield f"{where}: {address!r} is not an address"


def _rule(rule: Rule, clusters: set[str]) -> Iterator[str]:
    where = f"rule {rule.name}"
    if not rule.name:
        yield "a rule has no name"
    for match in rule.matches:
        yield from _match(where, match)
    match rule.action:
        case Route():
            yield from _route(where, rule.action, clusters)
        case Redirect():
            yield from _status(where, rule.action.status, 300, 399)
            yield from _edits(where, rule.action.response_headers)
            yield from _location(where, rule.action)
        case DirectResponse():
            yield from _status(where, rule.action.status, 200, 599)
            yield from _edits(where, rule.action.response_headers)


def _status(where: str, status: int, low: int, high: int) -> Iterator[str]:
    if not low <= status <= high:
        yield f"{where}: status {status} is not in {low}..{high}"


def _location(where: str, redirect: Redirect) -> Iterator[str]:
    if redirect.path is not None and redirect.prefix_rewrite is not None:
        yield f"{where}: path and prefix_rewrite exclude each other"
    if redirect.port is not None:
        yield from _port(where, redirect.port)
    for text in (redirect.scheme, redirect.authority, redirect.path, redirect.prefix_rewrite):
        if text is not None and (not text or re.search(r"[^\x21-\x7e]", text)):
            yield f"{where}: {text!r} can't be in a Location"


def _route(where: str, route: Route, clusters: set[str]) -> Iterator[str]:
    if not route.destinations:
        yield f"{where}: no destinations"
    for destination in route.destinations:
        if destination.cluster not in clusters:
            yield f"{where}: unknown cluster {destination.cluster}"
        if destination.weight < 0:
            yield f"{where}: weight {destination.weight}"
        yield from _edits(where, destination.request_headers)
        yield from _edits(where, destination.response_headers)
    yield from _edits(where, route.request_headers)
    yield from _edits(where, route.response_headers)
    rewrite = route.path_rewrite
    if rewrite is not None and rewrite.kind is RewriteKind.REGEX:
        yield from _regex(where, rewrite.regex)
        try:
            substitution_groups(rewrite.value)
        except ValueError as error:
            yield f"{where}: {error}"
    elif rewrite is not None and (not rewrite.value.startswith("/") or re.search(r"[^\x21-\x7e]|[?#]", rewrite.value)):
        yield f"{where}: {rewrite.value!r} is not a path"
    if route.authority_rewrite is not None and re.search(r"[^\x21-\x7e]|^\Z", route.authority_rewrite):
        yield f"{where}: {route.authority_rewrite!r} is not an authority"
    for value in (route.timeout_ms, route.retry.per_try_timeout_ms if route.retry else None):
        if value is not None and value <= 0:
            yield f"{where}: a timeout of {value} ms"
    if route.retry is not None:
        if route.retry.attempts < 0:
            yield f"{where}: {route.retry.attempts} retries"
        yield from _sorted(f"{where}: retry conditions", list(route.retry.on))


def _edits(where: str, edits: HeaderEdits) -> Iterator[str]:
    for name in (*edits.remove, *(n for n, _ in (*edits.set, *edits.add))):
        if not _TOKEN.fullmatch(name) or name == "host":
            yield f"{where}: {name!r} is not a header that can be edited"
    for _, value in (*edits.set, *edits.add):
        if _FORBIDDEN_IN_VALUE.search(value):
            yield f"{where}: {value!r} is not a header value"


def _match(where: str, match: Match) -> Iterator[str]:
    for condition in match.conditions:
        yield from _condition(where, condition)


def _condition(where: str, condition: Condition) -> Iterator[str]:
    kind, name = condition.field.kind, condition.field.name
    info = FIELDS[kind]
    where = f"{where}: {kind.value}"
    if info.named != bool(name):
        yield f"{where} {'needs a name' if info.named else f'takes no name, has {name!r}'}"
    if kind is FieldKind.HEADER and (not _TOKEN.fullmatch(name) or name == "host"):
        yield f"{where}: {name!r} is not a header to match"
    for matcher in condition.any_of:
        if not isinstance(matcher, _MATCHERS[info.type]):
            yield f"{where}: {type(matcher).__name__} does not fit a field of type {info.type.value}"
            continue
        yield from _matcher(where, matcher, kind)


def _matcher(where: str, matcher: Matcher, kind: FieldKind) -> Iterator[str]:
    match matcher:
        case CidrMatch():
            try:
                canonical = str(ipaddress.ip_network(matcher.network))
            except ValueError:
                canonical = ""
            if canonical != matcher.network:
                yield f"{where}: {matcher.network!r} is not a canonical address block"
        case PortMatch():
            yield from _port(where, matcher.port)
        case StringMatch(kind=StringKind.PRESENT) if matcher.value or matcher.ignore_case:
            yield f"{where}: present takes no value"
        case StringMatch(kind=StringKind.REGEX):
            yield from _regex(where, matcher.value)
        case StringMatch(kind=StringKind.PATH_TEMPLATE):
            if kind is not FieldKind.PATH:
                yield f"{where}: a path template matches paths only"
            try:
                template_parts(matcher.value)
            except ValueError as error:
                yield f"{where}: {matcher.value!r}: {error}"


def _regex(where: str, pattern: str) -> Iterator[str]:
    if len(pattern) > MAX_REGEX_CHARS:
        yield f"{where}: a regular expression of more than {MAX_REGEX_CHARS} characters"
        return
    try:
        re2_compile(pattern)
    except (ValueError, UnavailableError) as error:
        yield f"{where}: {pattern!r}: {error}"


def _workload(workload: Workload, policies: set[str]) -> Iterator[str]:
    for name in workload.policies:
        if name not in policies:
            yield f"workload {workload.name}: unknown policy {name}"
    for address in workload.addresses:
        if address_key(address) is None:
            yield f"workload {workload.name}: {address!r} is not an address"


def _authz(policy: AuthzPolicy) -> Iterator[str]:
    for rule in policy.rules:
        parts: Iterable[Match] = (*rule.sources, *rule.operations, rule.when)
        for match in parts:
            yield from _match(f"policy {policy.name}", match)
