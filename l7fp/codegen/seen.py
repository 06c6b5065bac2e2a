"""A request as the server will see it, in terms of the request as the client sent it.

Authorization looks at the edited request, the kernel at the original one. A condition on what a route changes is
pulled back: the pattern that the original must fit so that the edited one fits the condition's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from l7fp.codegen.automaton import REST, Pattern, Run, encode, pattern_of
from l7fp.codegen.edits import NO_EDIT, Merged, PathChange
from l7fp.codegen.programs import PathTerm
from l7fp.codegen.words import Reading, Words
from l7fp.ir.matching import compile_string, lower
from l7fp.ir.model import Condition, FieldKind, Matcher, StringKind, StringMatch

PathReading = PathTerm | bool | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a route does to a request. `prefix` is the text that `path.strip` counts, None where it is only
    known up to case; `port` is the destination port, None where it differs from endpoint to endpoint."""

    port: int | None
    path: PathChange | None = None
    prefix: str | None = ""
    authority: str | None = None
    headers: Merged = NO_EDIT

    def read(self, words: Words, condition: Condition, *, over: bool = False) -> Reading:
        """As `Words.read`, for the edited request."""
        kind, name = condition.field.kind, condition.field.name
        if kind is FieldKind.AUTHORITY and self.authority is not None:
            return _constant(condition, self.authority)
        if kind is FieldKind.HEADER and name in self.headers.names:
            if name not in self.headers.remove:
                return None  # the client's own values count as well
            values = self.headers.values(name, ())
            if len(values) > 1:
                return None
            return _constant(condition, values[0]) if values else condition.negate
        return words.read(condition, self.port, over=over)

    def read_path(self, condition: Condition, *, over: bool = False) -> PathReading:
        """The PATH condition as a term on the original path, or its truth, or None: unknown.

        With `over`, the answer may hold where the condition does not, but never the other way round.
        """
        if self.path is not None and self.path.strip is None:
            return _constant(condition, self.path.value)
        patterns: list[Pattern] = []
        for matcher in condition.any_of:
            found = self._pull_back(matcher, over=over and not condition.negate)
            if found is True:
                return not condition.negate
            if found is None:
                if over and condition.negate:
                    continue  # leaving out what is denied can only let more through
                return None
            patterns.extend(found)
        if not patterns:
            return None if over and condition.negate else condition.negate
        return PathTerm(tuple(patterns), condition.negate)

    def _pull_back(self, matcher: Matcher, *, over: bool) -> list[Pattern] | Literal[True] | None:
        if not isinstance(matcher, StringMatch):
            return None
        if matcher.kind is StringKind.REGEX:
            literal = literal_prefix(matcher.value) if over and self.path is None else ""
            return [Pattern((encode(literal), REST))] if literal else None
        if self.path is None:
            return [pattern_of(matcher)]
        if self.prefix is None or matcher.kind is StringKind.PATH_TEMPLATE:
            return None
        return pull_back(matcher, self.prefix, self.path.value)


def pull_back(matcher: StringMatch, old: str, new: str) -> list[Pattern] | Literal[True]:
    """Patterns of a path that begins with `old` such that the path with `new` in its place fits `matcher`.

    True: it always does; no patterns: it never does.
    """
    value, fold = matcher.value, matcher.ignore_case
    if fold:
        value, new = lower(value), lower(new)

    def begins(rest: str) -> Pattern:
        return _pattern(fold, old + rest, REST)

    match matcher.kind:
        case StringKind.PRESENT:
            return True
        case StringKind.EXACT:
            return [_pattern(fold, old + value[len(new) :])] if value.startswith(new) else []
        case StringKind.PREFIX:
            if new.startswith(value):
                return True
            return [begins(value[len(new) :])] if value.startswith(new) else []
        case StringKind.SUFFIX:
            out = [_pattern(fold, old + value[k:]) for k in _overlaps(new, value)]
            return [_pattern(fold, old, REST, value), *out] if value else True
        case StringKind.CONTAINS:
            if value in new:
                return True
            return [_pattern(fold, old, REST, value, REST), *(begins(value[k:]) for k in _overlaps(new, value))]
        case _:
            raise ValueError(f"no way to see {matcher.kind} through a rewrite")


def _overlaps(new: str, value: str) -> list[int]:
    """Lengths k >= 1 such that `new` ends with the first k characters of `value`."""
    return [k for k in range(1, min(len(new), len(value)) + 1) if new.endswith(value[:k])]


def _pattern(fold: bool, *pieces: str | Run) -> Pattern:
    return Pattern(tuple(encode(p) if isinstance(p, str) else p for p in pieces if p != ""), fold)


def _constant(condition: Condition, text: str) -> bool | None:
    outcomes = [constant_holds(m, text) for m in condition.any_of]
    if any(outcomes):
        return not condition.negate
    return None if None in outcomes else condition.negate


def constant_holds(matcher: Matcher, text: str) -> bool | None:
    """Whether `matcher` holds for a known text; None for what only the slow path evaluates."""
    if not isinstance(matcher, StringMatch) or matcher.kind is StringKind.REGEX:
        return None
    return compile_string(matcher)(text)


def literal_prefix(regex: str) -> str:
    """Text that every match of the RE2 pattern begins with; may be shorter than it could be."""
    if "|" in regex or regex.startswith("("):
        return ""
    found = re.match(r"\^?((?:[A-Za-z0-9/_~ =@%&!,;:'\"<>#-]|\\[./_-])*)", regex)
    assert found
    text, rest = found[1], regex[found.end() :]
    literal = re.sub(r"\\(.)", r"\1", text)
    return literal[:-1] if rest[:1] in ("*", "?", "{") else literal
