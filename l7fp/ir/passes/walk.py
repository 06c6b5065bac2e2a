"""The one way in which passes change parts of a policy: functions mapped over matches and rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from l7fp.ir.model import AuthzPolicy, AuthzRule, Match, Policy, Rule, VirtualHost

MatchChange = Callable[[Match], Match]


def map_rules(policy: Policy, change: Callable[[Rule], Rule]) -> Policy:
    """Every routing rule replaced by what `change` makes of it."""
    made: dict[int, Rule] = {}  # rules are shared between tables; what is one object stays one

    def once(rule: Rule) -> Rule:
        if id(rule) not in made:
            made[id(rule)] = change(rule)
        return made[id(rule)]

    def host(virtual_host: VirtualHost) -> VirtualHost:
        return replace(virtual_host, rules=tuple(once(rule) for rule in virtual_host.rules))

    tables = tuple(replace(t, virtual_hosts=tuple(host(h) for h in t.virtual_hosts)) for t in policy.tables)
    return replace(policy, tables=tables)


def map_authz(policy: Policy, change: Callable[[AuthzPolicy], AuthzPolicy]) -> Policy:
    """Every authorization policy replaced by what `change` makes of it."""
    return replace(policy, authz=tuple(change(p) for p in policy.authz))


def map_matches(policy: Policy, change: MatchChange) -> Policy:
    """Every match of rules and authorization policies replaced by what `change` makes of it."""

    def authz_rule(rule: AuthzRule) -> AuthzRule:
        return replace(
            rule,
            sources=tuple(change(m) for m in rule.sources),
            operations=tuple(change(m) for m in rule.operations),
            when=change(rule.when),
        )

    policy = map_rules(policy, lambda rule: replace(rule, matches=tuple(change(m) for m in rule.matches)))
    return map_authz(policy, lambda p: replace(p, rules=tuple(authz_rule(r) for r in p.rules)))
