"""One spelling: hosts and header names in lower case, canonical address blocks, no repeated matchers,
tables and named things in order."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from l7fp.ir.matching import lower
from l7fp.ir.model import (
    CidrMatch,
    Condition,
    DirectResponse,
    Field,
    FieldKind,
    HeaderEdits,
    Match,
    Matcher,
    Policy,
    PortMatch,
    Redirect,
    Route,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
)
from l7fp.ir.passes.walk import map_matches, map_rules

_KINDS = list(StringKind)


def normalise(policy: Policy) -> Policy:
    """The same policy, spelt in one way. Idempotent."""
    policy = map_matches(policy, _match)
    policy = map_rules(policy, _rule)
    tables = tuple(replace(t, virtual_hosts=tuple(_host(h) for h in t.virtual_hosts)) for t in policy.tables)
    return replace(
        policy,
        tables=tuple(sorted(tables, key=lambda t: t.port)),
        clusters=tuple(sorted(policy.clusters, key=lambda c: c.name)),
        services=tuple(sorted(policy.services, key=lambda s: s.host)),
        workloads=tuple(sorted(policy.workloads, key=lambda w: w.name)),
        authz=tuple(sorted(policy.authz, key=lambda p: p.name)),
    )


def _host(host: VirtualHost) -> VirtualHost:
    domains = tuple(dict.fromkeys(_domain(d) for d in host.domains))
    return replace(host, domains=domains, addresses=tuple(dict.fromkeys(host.addresses)))


def _domain(domain: str) -> str:
    name, colon, port = lower(domain).partition(":")
    if domain.startswith("["):
        return lower(domain)
    return name.removesuffix(".") + colon + port


def _rule(rule: Rule) -> Rule:
    match rule.action:
        case Route() as route:
            destinations = tuple(
                replace(d, request_headers=_edits(d.request_headers), response_headers=_edits(d.response_headers))
                for d in route.destinations
            )
            action: Route | Redirect | DirectResponse = replace(
                route,
                destinations=destinations,
                request_headers=_edits(route.request_headers),
                response_headers=_edits(route.response_headers),
            )
        case Redirect() | DirectResponse() as reply:
            action = replace(reply, response_headers=_edits(reply.response_headers))
    return replace(rule, action=action)


def _edits(edits: HeaderEdits) -> HeaderEdits:
    return HeaderEdits(
        remove=tuple(dict.fromkeys(lower(name) for name in edits.remove)),
        set=tuple((lower(name), value) for name, value in edits.set),
        add=tuple((lower(name), value) for name, value in edits.add),
    )


def _match(match: Match) -> Match:
    return replace(match, conditions=tuple(_condition(c) for c in match.conditions))


def _condition(condition: Condition) -> Condition:
    field = condition.field
    if field.kind is FieldKind.HEADER:
        field = Field(field.kind, lower(field.name))
    matchers = list(dict.fromkeys(_matcher(m) for m in condition.any_of))
    if field.kind is not FieldKind.PATH:  # a prefix rewrite replaces what the first path matcher matched
        matchers.sort(key=_order)
    return replace(condition, field=field, any_of=tuple(matchers))


def _matcher(matcher: Matcher) -> Matcher:
    match matcher:
        case CidrMatch():
            return CidrMatch(str(ipaddress.ip_network(matcher.network, strict=False)))
        case StringMatch(kind=StringKind.PRESENT):
            return StringMatch(StringKind.PRESENT)
        case StringMatch(kind=StringKind.REGEX):
            return StringMatch(StringKind.REGEX, matcher.value)
        case StringMatch(ignore_case=True):
            return StringMatch(matcher.kind, lower(matcher.value), True)
        case _:
            return matcher


def _order(matcher: Matcher) -> tuple[int, str, bool]:
    match matcher:
        case PortMatch():
            return matcher.port, "", False
        case CidrMatch():
            return 0, matcher.network, False
        case _:
            return _KINDS.index(matcher.kind), matcher.value, matcher.ignore_case
