"""Authorization policies of a group of workloads -> one first-match list per way a route rewrites requests.

DENY beats ALLOW, and what is certain beats what the kernel can't read: certain denials, then possible ones
(slow path), then certain permissions, possible ones, and a denial for the rest if there is any ALLOW policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from l7fp import abi
from l7fp.codegen.automaton import BudgetError
from l7fp.codegen.programs import Candidate, PathTerm, Programs
from l7fp.codegen.replies import answer
from l7fp.codegen.seen import Seen
from l7fp.codegen.tables import Tables
from l7fp.codegen.words import Reading, Test, Words
from l7fp.ir.interp import DENIED_BODY
from l7fp.ir.model import AuthzAction, AuthzPolicy, AuthzRule, Condition, FieldKind, HeaderEdits

MAX_CONJUNCTIONS = 4096
MAX_AUTHZ_STATES = 20_000


@dataclass(slots=True)
class Authorization:
    """Writes `authz` records. `slow` names the policies that classification keeps from the kernel; `names`
    are what results refer to, index 0 standing for no particular policy."""

    tables: Tables
    words: Words
    programs: Programs
    policies: Mapping[str, AuthzPolicy]
    slow: frozenset[str]
    names: list[str] = field(default_factory=lambda: [""])
    _groups: dict[tuple[tuple[str, ...], Seen], tuple[int, int]] = field(default_factory=dict)

    def group(self, names: tuple[str, ...], seen: Seen, response: tuple[HeaderEdits, ...]) -> int:
        """Index in `authz` for workloads guarded by the policies `names`, NONE if nothing guards them.

        `response` are the edits that a denial undergoes. Raises UnplannableError.
        """
        guarding = tuple(n for n in names if self.policies[n].action is not AuthzAction.AUDIT)
        if not guarding:
            return abi.NONE
        key = (guarding, seen)
        if key not in self._groups:
            self._groups[key] = self._make(guarding, seen)
        path_dfa, program = self._groups[key]
        denial = answer(self.tables, 403, body=DENIED_BODY, edits=response)
        return self.tables.intern("authz", path_dfa=path_dfa, program=program, reply=denial)

    def candidates(self, names: tuple[str, ...], seen: Seen) -> list[Candidate]:
        """The first-match list; END targets are results as `abi.AuthzResult` describes them."""
        certain: dict[AuthzAction, list[Candidate]] = {AuthzAction.DENY: [], AuthzAction.ALLOW: []}
        possible: dict[AuthzAction, list[Candidate]] = {AuthzAction.DENY: [], AuthzAction.ALLOW: []}
        last = 0
        for name in names:
            policy, number = self.policies[name], self._number(name)
            result = abi.AuthzResult.DENY if policy.action is AuthzAction.DENY else abi.AuthzResult.ALLOW
            if policy.action is AuthzAction.ALLOW:
                last = last or number
            sure: list[Candidate] = []
            unsure: list[Candidate] = []
            for rule in policy.rules:
                for conditions in conjunctions(rule):
                    self._read(conditions, seen, number, result, sure, unsure)
            if name in self.slow and not unsure:
                sure, unsure = [], [Candidate(_slow(number), c.paths, c.tests) for c in sure]
            certain[policy.action] += sure
            possible[policy.action] += unsure
        out = certain[AuthzAction.DENY] + possible[AuthzAction.DENY]
        if any(self.policies[n].action is AuthzAction.ALLOW for n in names):
            out += certain[AuthzAction.ALLOW] + possible[AuthzAction.ALLOW]
            out.append(Candidate(abi.AuthzResult.DENY | last << 8))
        else:
            out.append(Candidate(abi.AuthzResult.ALLOW))
        return out

    def _read(
        self,
        conditions: tuple[Condition, ...],
        seen: Seen,
        number: int,
        result: int,
        sure: list[Candidate],
        unsure: list[Candidate],
    ) -> None:
        paths: list[PathTerm] = []
        tests: list[Test] = []
        exact = True
        for condition in conditions:
            reading = self._condition(condition, seen, over=False)
            if reading is None:
                exact = False
                reading = self._condition(condition, seen, over=True)
            match reading:
                case False:
                    return
                case PathTerm():
                    paths.append(reading)
                case Test():
                    tests.append(reading)
                case _:
                    pass
        into = sure if exact else unsure
        into.append(Candidate(result | number << 8 if exact else _slow(number), tuple(paths), tuple(tests)))

    def _condition(self, condition: Condition, seen: Seen, *, over: bool) -> Reading | PathTerm:
        if condition.field.kind is FieldKind.PATH:
            return seen.read_path(condition, over=over)
        return seen.read(self.words, condition, over=over)

    def _make(self, names: tuple[str, ...], seen: Seen) -> tuple[int, int]:
        every = sum(len(conjunctions(rule)) for n in names for rule in self.policies[n].rules)
        slow = [Candidate(_slow(0))]
        candidates = self.candidates(names, seen) if every <= MAX_CONJUNCTIONS else slow
        try:
            return self.programs.decide(candidates, max_states=MAX_AUTHZ_STATES)
        except BudgetError:
            return self.programs.decide(slow, max_states=1)

    def _number(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def _slow(number: int) -> int:
    return abi.AuthzResult.SLOW | number << 8


def conjunctions(rule: AuthzRule) -> list[tuple[Condition, ...]]:
    """The rule as alternatives, each a conjunction of conditions."""
    sources = [m.conditions for m in rule.sources] or [()]
    operations = [m.conditions for m in rule.operations] or [()]
    return [s + o + rule.when.conditions for s in sources for o in operations]
