"""First-match lists -> path automaton and decision programs.

A `Candidate` holds when all its path terms and all its tests do. Of a list of them the automaton over the path
leaves those whose path terms hold, and a decision program for exactly these runs their tests in order. Programs
that end alike share their tails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from l7fp import abi
from l7fp.codegen.automaton import Pattern
from l7fp.codegen.tables import Tables
from l7fp.codegen.words import Test


@dataclass(frozen=True, slots=True)
class PathTerm:
    """Holds when any of `patterns` fits the path; `negate` inverts it."""

    patterns: tuple[Pattern, ...]
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """`result` is the program's END target if this candidate is the first to hold."""

    result: int
    paths: tuple[PathTerm, ...] = ()
    tests: tuple[Test, ...] = ()


@dataclass(slots=True)
class Programs:
    """Emits decision programs into `code`."""

    tables: Tables
    _tails: dict[tuple[int, tuple[Test, ...], int], int] = field(default_factory=dict)
    _at: dict[int, int] = field(default_factory=dict)

    def decide(self, candidates: list[Candidate], *, max_states: int) -> tuple[int, int]:
        """(start of the path automaton or 0, address of the program for a path it says nothing about).

        The last candidate must hold always. Raises BudgetError.
        """
        plan = _PathPlan(candidates)
        fallback = self.program(plan.left(0))
        if not plan.patterns:
            return 0, fallback

        def output(accepted: int) -> int:
            address = self.program(plan.left(accepted))
            return 0 if address == fallback else address + 1

        start = self.tables.automaton(
            plan.patterns, output, key=tuple(candidates), decisive=plan.decisive, max_states=max_states
        )
        return start, fallback

    def program(self, candidates: list[Candidate]) -> int:
        """Address of the program that finds the first of `candidates` whose tests hold."""
        chain: list[tuple[int, Candidate]] = []
        tail = 0
        for candidate in reversed(candidates):
            key = (tail, candidate.tests, candidate.result)
            if not candidate.tests:
                chain, key = [], (0, (), candidate.result)
            tail = self._tails.setdefault(key, len(self._tails) + 1)
            chain.append((tail, candidate))
        chain.reverse()
        start = len(self.tables.rows["code"])
        for n, (number, candidate) in enumerate(chain):
            if number in self._at:
                if n == 0:
                    return self._at[number]
                self._emit(abi.Op.JUMP, target=self._at[number])
                break
            self._at[number] = len(self.tables.rows["code"])
            after = self._at[number] + len(candidate.tests) + 1
            for test in candidate.tests:
                self._emit(test.op, slot=test.slot, mask=test.mask, target=after)
            self._emit(abi.Op.END, target=candidate.result)
        return start

    def _emit(self, op: abi.Op, *, slot: int = 0, mask: int = 0, target: int = 0) -> None:
        self.tables.add("code", op=op, slot=slot, mask=mask, target=target)


class _PathPlan:
    """Numbers the patterns of all candidates in their order and answers which candidates a set leaves."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self.candidates = candidates
        self.patterns: list[tuple[int, Pattern]] = []
        self.decisive = 0
        self.owner: list[int] = []  # pattern number -> candidate, for candidates with one positive term
        self.always: list[int] = []  # candidates without path terms
        self.complex: list[tuple[int, list[tuple[int, bool]]]] = []
        for nth, candidate in enumerate(candidates):
            terms = candidate.paths
            if not terms:
                self.always.append(nth)
            elif len(terms) == 1 and not terms[0].negate:
                number = self._number(terms[0], nth)
                if not candidate.tests:
                    self.decisive |= 1 << number
            else:
                self.complex.append((nth, [(self._number(term, -1), term.negate) for term in terms]))

    def _number(self, term: PathTerm, owner: int) -> int:
        number = len(self.owner)
        self.owner.append(owner)
        self.patterns.extend((number, pattern) for pattern in term.patterns)
        return number

    def left(self, accepted: int) -> list[Candidate]:
        """Candidates whose path terms hold, up to the first that needs no test."""
        alive = list(self.always)
        rest = accepted
        while rest:
            number = (rest & -rest).bit_length() - 1
            rest &= rest - 1
            if self.owner[number] >= 0:
                alive.append(self.owner[number])
        for nth, terms in self.complex:
            if all((accepted >> number & 1 == 1) != negate for number, negate in terms):
                alive.append(nth)
        out: list[Candidate] = []
        for nth in sorted(alive):
            out.append(self.candidates[nth])
            if not self.candidates[nth].tests:
                break
        return out
