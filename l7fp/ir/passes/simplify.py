"""What always holds is left out, what never holds goes, what is said twice is said once.

A rule never goes: coverage speaks of every rule. One that can't hold keeps a match that can't.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from l7fp.ir.model import (
    AuthzPolicy,
    AuthzRule,
    Condition,
    FieldKind,
    Match,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    Rule,
    StringKind,
    StringMatch,
)
from l7fp.ir.passes.walk import map_authz, map_rules

_NEVER_KNOWN = frozenset({FieldKind.REQUEST_PRINCIPAL, FieldKind.SNI})
_ALWAYS_ONE_VALUE = frozenset({FieldKind.PATH, FieldKind.METHOD, FieldKind.AUTHORITY, FieldKind.SCHEME})


def simplify(policy: Policy) -> Policy:
    """The same policy with less to ask. Idempotent."""
    return map_authz(map_rules(policy, _rule), _authz)


def truth(condition: Condition) -> bool | None:
    """True: it holds for every request; False: for none; None: it depends."""
    kind = condition.field.kind
    if kind in _NEVER_KNOWN:
        return condition.negate
    if not condition.any_of and kind not in _IDENTITY:
        return condition.negate
    if kind in _ALWAYS_ONE_VALUE and any(_holds_always(kind, m) for m in condition.any_of):
        return not condition.negate
    return None


# An ambiguous identity makes conditions on it hold in DENY rules, whatever they say.
_IDENTITY = frozenset({FieldKind.SOURCE_PRINCIPAL, FieldKind.SOURCE_NAMESPACE, FieldKind.SOURCE_LABEL})


def _holds_always(kind: FieldKind, matcher: object) -> bool:
    if not isinstance(matcher, StringMatch):
        return False
    if matcher.kind is StringKind.PRESENT:
        return True
    text = "/" if kind is FieldKind.PATH else ""
    return matcher.kind is StringKind.PREFIX and matcher.value in ("", text)


def impossible(match: Match) -> bool:
    """True when no request fits the match."""
    return any(truth(c) is False for c in match.conditions) or _contradicts(match)


def _contradicts(match: Match) -> bool:
    wanted: dict[FieldKind, list[frozenset[str]]] = {}
    for condition in match.conditions:
        exact = [m.value for m in condition.any_of if isinstance(m, StringMatch) and _is_exact(m)]
        if condition.field.kind in _ALWAYS_ONE_VALUE and not condition.negate and len(exact) == len(condition.any_of):
            wanted.setdefault(condition.field.kind, []).append(frozenset(exact))
    return any(not reduce(frozenset.intersection, sets) for sets in wanted.values())


def _is_exact(matcher: StringMatch) -> bool:
    return matcher.kind is StringKind.EXACT and not matcher.ignore_case


def _match(match: Match, *, keep_path: bool = False) -> Match:
    kept: dict[object, Condition] = {}
    for condition in match.conditions:
        if truth(condition) and not (keep_path and condition.field.kind is FieldKind.PATH):
            continue
        kept.setdefault((condition.field, condition.any_of, condition.negate), condition)
    return replace(match, conditions=tuple(kept.values()))


def _distinct(matches: list[Match]) -> tuple[Match, ...]:
    kept: dict[object, Match] = {}
    for match in matches:
        kept.setdefault(tuple((c.field, c.any_of, c.negate) for c in match.conditions), match)
    return tuple(kept.values())


def _rule(rule: Rule) -> Rule:
    possible = [m for m in rule.matches if not impossible(m)] or list(rule.matches[:1])
    keep_path = _rewrites_prefix(rule)  # which then depends on what the path condition says
    return replace(
        rule, matches=_distinct([_match(m, keep_path=keep_path) if not impossible(m) else m for m in possible])
    )


def _rewrites_prefix(rule: Rule) -> bool:
    match rule.action:
        case Route(path_rewrite=rewrite):
            return rewrite is not None and rewrite.kind is RewriteKind.PREFIX
        case Redirect(prefix_rewrite=prefix):
            return prefix is not None
        case _:
            return False


def _authz(policy: AuthzPolicy) -> AuthzPolicy:
    made = [_authz_rule(rule) for rule in policy.rules]
    return replace(policy, rules=tuple(rule for rule in made if rule is not None))


def _authz_rule(rule: AuthzRule) -> AuthzRule | None:
    sources, operations = _alternatives(rule.sources), _alternatives(rule.operations)
    if sources is None or operations is None or impossible(rule.when):
        return None
    return replace(rule, sources=sources, operations=operations, when=_match(rule.when))


def _alternatives(matches: tuple[Match, ...]) -> tuple[Match, ...] | None:
    """Alternatives simplified: none left of several is None, one that always holds makes all of them moot."""
    possible = [_match(m) for m in matches if not impossible(m)]
    if matches and not possible:
        return None
    return () if any(not m.conditions for m in possible) else _distinct(possible)
