"""Which rules and authorization policies the kernel enforces by itself, and why the others need the slow path.

A rule is `Slow` when any request that it matches may need something only the slow path does. Whatever
can't be decided here goes to the slow path too. The slow path enforces everything, so nothing is lost.
Each `Reason.code` is stable; they are the keys of `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from l7fp.ir.fields import FIELDS
from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    Condition,
    FieldKind,
    Match,
    Matcher,
    Policy,
    Rule,
    StringKind,
    StringMatch,
)
from l7fp.ir.passes.kernel_actions import ActionLimits
from l7fp.ir.passes.reasons import REASONS, Reason, make_reason
from l7fp.source import NOWHERE, Span

__all__ = ["REASONS", "Classification", "Kernel", "Placement", "Reason", "Slow", "classify"]

MAX_NAMED_FIELDS = 27  # match-result words left for headers and query parameters


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel enforces all of it, for requests written plainly enough."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Its requests go to the slow path."""

    reasons: tuple[Reason, ...]


Placement = Kernel | Slow


@dataclass(frozen=True, slots=True)
class Classification:
    """Placement by rule name and by authorization policy name."""

    rules: dict[str, Placement]
    authz: dict[str, Placement]


def classify(policy: Policy) -> Classification:
    """Place every rule and authorization policy. Rules earlier in the policy get the kernel's words first."""
    words = _Words()
    limits = ActionLimits(policy)
    rules: dict[str, list[Reason]] = {}
    for table in policy.tables:
        for host in table.virtual_hosts:
            for rule in host.rules:
                rules.setdefault(rule.name, []).extend(_rule_reasons(rule, words, limits))
    authz = {p.name: list(_authz_reasons(p, words)) for p in policy.authz}
    return Classification(_placements(rules), _placements(authz))


def _placements(found: Mapping[str, Iterable[Reason]]) -> dict[str, Placement]:
    out: dict[str, Placement] = {}
    for name, reasons in found.items():
        distinct = tuple(dict.fromkeys(reasons))
        out[name] = Slow(distinct) if distinct else Kernel()
    return out


def _rule_reasons(rule: Rule, words: _Words, limits: ActionLimits) -> Iterator[Reason]:
    for match in rule.matches:
        yield from _match_reasons(match, words, rule.span)
    yield from limits.reasons(rule)


def _authz_reasons(policy: AuthzPolicy, words: _Words) -> Iterator[Reason]:
    if policy.action is AuthzAction.AUDIT:
        return  # it never changes a verdict
    for rule in policy.rules:
        for match in (*rule.sources, *rule.operations, rule.when):
            yield from _match_reasons(match, words, rule.span if rule.span != NOWHERE else policy.span)


def _match_reasons(match: Match, words: _Words, outer: Span) -> Iterator[Reason]:
    for condition in match.conditions:
        place = next((s for s in (condition.span, match.span) if s != NOWHERE), outer)
        unreadable = list(_unreadable(condition, place))
        yield from unreadable
        if not unreadable:
            yield from words.take(condition, place)


def _unreadable(condition: Condition, place: Span) -> Iterator[Reason]:
    info = FIELDS[condition.field.kind]
    if not info.kernel_reads:
        yield make_reason("field", place, field=info.kind.value)
        return
    if info.identity:
        return  # decided per workload by the loader, with any matcher
    for matcher in condition.any_of:
        if not isinstance(matcher, StringMatch) or matcher.kind in info.kernel:
            continue
        code = "regex" if matcher.kind is StringKind.REGEX else "matcher"
        yield make_reason(code, place, field=info.kind.value, kind=matcher.kind.value, value=matcher.value)


@dataclass(slots=True)
class _Words:
    """The match-result words that conditions would take, one bit a distinct matcher."""

    used: dict[tuple[str, str], set[tuple[str, Matcher]]] = field(default_factory=dict)

    def take(self, condition: Condition, place: Span) -> Iterator[Reason]:
        """Room for the condition's matchers, or the reasons why there is none."""
        info = FIELDS[condition.field.kind]
        if info.limit is None:
            return
        # Identity fields share the word of the source; every named header or parameter has its own.
        word = ("source", "") if info.identity else (info.kind.value, condition.field.name)
        if word not in self.used and info.named and not info.identity:
            named = sum(1 for _, name in self.used if name)
            if named >= MAX_NAMED_FIELDS:
                yield make_reason("named-fields", place, limit=MAX_NAMED_FIELDS, name=condition.field.name)
                return
        atoms = self.used.get(word, set()) | {(_atom_scope(condition), m) for m in condition.any_of}
        if len(atoms) > info.limit:
            yield make_reason("matchers", place, limit=info.limit, field=info.kind.value, name=condition.field.name)
            return
        self.used[word] = atoms


def _atom_scope(condition: Condition) -> str:
    kind = condition.field.kind
    return f"{kind.value} {condition.field.name}" if kind is FieldKind.SOURCE_LABEL else kind.value
