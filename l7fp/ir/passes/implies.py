"""Implication between matches: sound, not complete."""

from __future__ import annotations

import ipaddress

from l7fp.ir.matching import compile_string, lower
from l7fp.ir.model import CidrMatch, Condition, FieldKind, Match, Matcher, PortMatch, StringKind, StringMatch
from l7fp.ir.passes.simplify import truth


def match_implies(match: Match, other: Match) -> bool:
    """True only if every request that `match` holds for (as a routing match), `other` holds for too."""
    return all(
        truth(wanted) is True or any(condition_implies(given, wanted) for given in match.conditions)
        for wanted in other.conditions
    )


def condition_implies(given: Condition, wanted: Condition) -> bool:
    """True only if `wanted` holds wherever `given` does."""
    if given.field != wanted.field:
        return False
    if not given.negate and not wanted.negate:
        return all(any(covers(w, g) for w in wanted.any_of) for g in given.any_of)
    if given.negate and wanted.negate:
        return all(any(covers(g, w) for g in given.any_of) for w in wanted.any_of)
    if given.negate or given.field.kind is FieldKind.HEADER:
        return False  # a repeated header may have both the value wanted and one that is not
    return all(_exact_value(g) and not any(_may_overlap(w, g) for w in wanted.any_of) for g in given.any_of)


def _exact_value(matcher: Matcher) -> bool:
    return isinstance(matcher, StringMatch) and matcher.kind is StringKind.EXACT and not matcher.ignore_case


def _may_overlap(wanted: Matcher, exact: Matcher) -> bool:
    if not isinstance(wanted, StringMatch) or not isinstance(exact, StringMatch):
        return True
    return compile_string(wanted)(exact.value)


def covers(wide: Matcher, narrow: Matcher) -> bool:
    """True only if `wide` matches every text that `narrow` matches."""
    if wide == narrow:
        return True
    match wide, narrow:
        case StringMatch(), StringMatch():
            return _text_covers(wide, narrow)
        case CidrMatch(), CidrMatch():
            outer, inner = ipaddress.ip_network(wide.network), ipaddress.ip_network(narrow.network)
            return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
        case PortMatch(), PortMatch():
            return wide.port == narrow.port
        case _:
            return False


def _text_covers(wide: StringMatch, narrow: StringMatch) -> bool:
    if wide.kind is StringKind.PRESENT:
        return True
    if narrow.kind is StringKind.EXACT and not narrow.ignore_case:
        return compile_string(wide)(narrow.value)
    if wide.kind in (StringKind.REGEX, StringKind.PATH_TEMPLATE) or narrow.kind is StringKind.REGEX:
        return False
    if narrow.ignore_case and not wide.ignore_case:
        return False
    big, small = wide.value, narrow.value
    if wide.ignore_case:
        big, small = lower(big), lower(small)
    if narrow.kind is StringKind.PATH_TEMPLATE:
        literal = small[: small.index("{")] if "{" in small else small
        return wide.kind is StringKind.PREFIX and literal.startswith(big)
    match wide.kind:
        case StringKind.EXACT:
            return narrow.kind is StringKind.EXACT and small == big
        case StringKind.PREFIX:
            return narrow.kind in (StringKind.PREFIX, StringKind.EXACT) and small.startswith(big)
        case StringKind.SUFFIX:
            return narrow.kind in (StringKind.SUFFIX, StringKind.EXACT) and small.endswith(big)
        case StringKind.CONTAINS:
            return narrow.kind is not StringKind.PRESENT and big in small
        case _:
            return False
