"""Rules that no request reaches, because rules before them in the same virtual host take them all.

Sound and syntactic: what is reported can't be reached; not all that can't be reached is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from l7fp.diagnostics import Diagnostics
from l7fp.ir.model import FieldKind, Match, Policy, Rule, StringKind, StringMatch, VirtualHost
from l7fp.ir.passes.implies import match_implies
from l7fp.ir.passes.simplify import impossible
from l7fp.source import NOWHERE, Span

SHADOWED_RULE = "L7FP601"
IMPOSSIBLE_MATCH = "L7FP602"
SHADOWED_MATCH = "L7FP603"

_Entry = tuple[Rule, Match]


def report(policy: Policy, diagnostics: Diagnostics) -> None:
    """Append a warning for every rule and match that can't be reached, naming what takes its requests.

    A rule that several virtual hosts share is reported when none of them reaches it.
    """
    found: dict[str, list[tuple[Rule, dict[int, Rule]]]] = {}
    for table in policy.tables:
        for host in table.virtual_hosts:
            for rule, shadowed in _shadowed(host):
                found.setdefault(rule.name, []).append((rule, shadowed))
    for places in found.values():
        rule = places[0][0]
        for number, match in enumerate(rule.matches):
            if impossible(match):
                text = f"match {number} of {rule.name} can't hold for any request"
                diagnostics.warning(IMPOSSIBLE_MATCH, _place(match, rule), text, "its conditions exclude each other")
        everywhere = set.intersection(*(set(shadowed) for _, shadowed in places))
        if len(everywhere) == max(len(rule.matches), 1):
            first = places[0][1][min(everywhere)]
            text = f"{rule.name} is never reached: {first.name} ({first.span}) takes its requests"
            diagnostics.warning(SHADOWED_RULE, rule.span, text, "move it up, or remove it")
            continue
        for number in sorted(everywhere):
            first = places[0][1][number]
            text = f"match {number} of {rule.name} is never reached: {first.name} ({first.span}) takes its requests"
            diagnostics.warning(SHADOWED_MATCH, _place(rule.matches[number], rule), text, "remove it")


def _place(match: Match, rule: Rule) -> Span:
    return match.span if match.span != NOWHERE else rule.span


def _shadowed(host: VirtualHost) -> Iterator[tuple[Rule, dict[int, Rule]]]:
    """Each rule with those of its matches that earlier rules take whole, and by which."""
    index = _Index()
    for rule in host.rules:
        own = rule.matches or (Match(),)
        shadowed: dict[int, Rule] = {}
        for number, match in enumerate(own):
            taker = None if impossible(match) else index.taker(match)
            if taker is not None:
                shadowed[number] = taker
        yield rule, shadowed
        for match in own:
            if not impossible(match):
                index.add(rule, match)


class _Index:
    """Matches seen so far, found by path, so that thousands of rules do not mean millions of comparisons."""

    def __init__(self) -> None:
        self._exact: dict[str, list[_Entry]] = {}
        self._prefix: dict[str, list[_Entry]] = {}
        self._other: list[_Entry] = []

    def add(self, rule: Rule, match: Match) -> None:
        """Remember a match that comes before all that are asked about later."""
        keys = _path_keys(match)
        if keys is None:
            self._other.append((rule, match))
            return
        for kind, value in keys:
            into = self._exact if kind is StringKind.EXACT else self._prefix
            into.setdefault(value, []).append((rule, match))

    def taker(self, match: Match) -> Rule | None:
        """The rule of a remembered match that holds whenever `match` does."""
        for rule, earlier in self._candidates(match):
            if match_implies(match, earlier):
                return rule
        return None

    def _candidates(self, match: Match) -> Iterator[_Entry]:
        yield from self._other
        keys = _path_keys(match)
        if keys is None:
            yield from _entries(self._prefix.values())
            yield from _entries(self._exact.values())
            return
        kind, value = keys[0]  # whatever covers all of the matchers covers the first
        if kind is StringKind.EXACT:
            yield from self._exact.get(value, ())
        for length in range(len(value) + 1):
            yield from self._prefix.get(value[:length], ())


def _entries(lists: Iterable[list[_Entry]]) -> Iterator[_Entry]:
    for entries in lists:
        yield from entries


def _path_keys(match: Match) -> list[tuple[StringKind, str]] | None:
    """Matchers of the only path condition, if all are case-sensitive exact or prefix ones."""
    paths = [c for c in match.conditions if c.field.kind is FieldKind.PATH]
    if len(paths) != 1 or paths[0].negate or not paths[0].any_of:
        return None
    keys = []
    for matcher in paths[0].any_of:
        simple = isinstance(matcher, StringMatch) and matcher.kind in (StringKind.EXACT, StringKind.PREFIX)
        if not simple or not isinstance(matcher, StringMatch) or matcher.ignore_case:
            return None
        keys.append((matcher.kind, matcher.value))
    return keys
