"""The words of match results: which bit of which word says that which matcher holds.

One word per field of a request (`abi.Bits`; named headers and query parameters follow). A condition becomes a
`Test` of its field's word, or a truth that is known now, or None: the kernel can't read it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from l7fp import abi
from l7fp.codegen.automaton import Pattern, encode, pattern_of
from l7fp.codegen.sources import SourceAtom
from l7fp.codegen.tables import Tables
from l7fp.ir.model import CidrMatch, Condition, FieldKind, Matcher, PortMatch, StringKind, StringMatch

WORD_BITS = 64
PRESENT_BIT = 1  # bit 0 of a named word: the header or parameter occurs

# Framing and connection headers. A request that has one of the second group is never decided in the kernel.
FRAMING: dict[str, int] = {
    "host": abi.HeaderKind.HOST,
    "content-length": abi.HeaderKind.CONTENT_LENGTH,
    "transfer-encoding": abi.HeaderKind.TRANSFER_ENCODING,
    "connection": abi.HeaderKind.CONNECTION,
}
DIVERTING = (
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
)


@dataclass(frozen=True, slots=True)
class Test:
    """`op` is ANY (a positive condition) or NONE (a negated one) on word `slot`."""

    op: abi.Op
    slot: int
    mask: int


Reading = Test | bool | None


@dataclass(slots=True)
class Word:
    """One field's matchers in order of their bits, from `first` on. `first` is 1 where bit 0 is presence."""

    slot: int
    first: int = 0
    matchers: list[StringMatch] = field(default_factory=list)

    def bit(self, matcher: StringMatch) -> int | None:
        """The matcher's bit, or None when the word is full."""
        if matcher not in self.matchers:
            if self.first + len(self.matchers) >= WORD_BITS:
                return None
            self.matchers.append(matcher)
        return 1 << (self.first + self.matchers.index(matcher))

    def automaton(self, tables: Tables) -> int:
        """Start of the automaton whose output is the index of the word's value in `masks`; 0 without matchers.

        Raises BudgetError. Asked again, it yields the same one.
        """
        if not self.matchers:
            return 0
        patterns = [(n, pattern_of(m)) for n, m in enumerate(self.matchers)]
        present = PRESENT_BIT if self.first else 0
        return tables.automaton(
            patterns, lambda accepted: tables.mask(accepted << self.first | present), key=("mask", self.first)
        )


@dataclass(slots=True)
class Words:
    """All words of one policy version. `refused`: fields (kind, name) whose automaton turned out too large."""

    refused: frozenset[tuple[FieldKind, str]] = frozenset()
    method: Word = field(default_factory=lambda: Word(abi.Bits.METHOD))
    host: Word = field(default_factory=lambda: Word(abi.Bits.HOST))
    headers: dict[str, Word] = field(default_factory=dict)
    queries: dict[str, Word] = field(default_factory=dict)
    source_atoms: list[SourceAtom] = field(default_factory=list)
    cidr_atoms: list[str] = field(default_factory=list)

    def read(self, condition: Condition, port: int | None, *, over: bool = False) -> Reading:
        """How the kernel decides `condition` of a request to `port` (None: unknown).

        With `over`, matchers that the kernel can't read may be guessed in favour of the condition, so that it
        never fails where it should hold; without, they make it None. PATH is not read here (ValueError).
        """
        kind = condition.field.kind
        if kind is FieldKind.PATH:
            raise ValueError("the path has its own automaton")
        reading = self._positive(condition, port, over)
        if reading is None or not condition.negate:
            return reading
        if isinstance(reading, bool):
            return not reading
        return Test(abi.Op.NONE, reading.slot, reading.mask)

    def _positive(self, condition: Condition, port: int | None, over: bool) -> Reading:
        kind, name = condition.field.kind, condition.field.name
        if kind is FieldKind.DESTINATION_PORT:
            return None if port is None else any(isinstance(m, PortMatch) and m.port == port for m in condition.any_of)
        if kind is FieldKind.HEADER and name in DIVERTING:
            return False
        slot, mask, missing = -1, 0, False
        for matcher in condition.any_of:
            place = self._place(kind, name, matcher)
            if place is None:
                missing = True
            else:
                slot, mask = place[0], mask | place[1]
        if missing and not (over and condition.negate):
            return None
        if slot < 0:
            return None if missing else False
        return Test(abi.Op.ANY, slot, mask)

    def _place(self, kind: FieldKind, name: str, matcher: Matcher) -> tuple[int, int] | None:
        if (kind, name) in self.refused:
            return None
        if kind is FieldKind.SOURCE_IP:
            return self._cidr(matcher)
        if not isinstance(matcher, StringMatch):
            return None
        if kind in (FieldKind.SOURCE_PRINCIPAL, FieldKind.SOURCE_NAMESPACE, FieldKind.SOURCE_LABEL):
            return self._source((kind, name, matcher))
        if matcher.kind is StringKind.REGEX:
            return None
        match kind:
            case FieldKind.METHOD:
                word: Word | None = self.method
            case FieldKind.AUTHORITY:
                word = self.host
            case FieldKind.HEADER:
                word = None if name in FRAMING or name.startswith(":") else self._named(self.headers, name)
            case FieldKind.QUERY:
                word = self._named(self.queries, name)
            case _:
                word = None
        if word is None:
            return None
        if matcher.kind is StringKind.PRESENT and word.first:
            return word.slot, PRESENT_BIT
        bit = word.bit(matcher)
        return None if bit is None else (word.slot, bit)

    def _named(self, words: dict[str, Word], name: str) -> Word | None:
        if name not in words:
            slot = abi.Bits.FIRST_NAMED + len(self.headers) + len(self.queries)
            if slot >= abi.MAX_BITS:
                return None
            words[name] = Word(slot, first=1)
        return words[name]

    def _source(self, atom: SourceAtom) -> tuple[int, int] | None:
        if atom not in self.source_atoms:
            if len(self.source_atoms) >= WORD_BITS:
                return None
            self.source_atoms.append(atom)
        return abi.Bits.SOURCE, 1 << self.source_atoms.index(atom)

    def _cidr(self, matcher: Matcher) -> tuple[int, int] | None:
        if not isinstance(matcher, CidrMatch):
            return None
        if matcher.network not in self.cidr_atoms:
            if len(self.cidr_atoms) >= WORD_BITS:
                return None
            self.cidr_atoms.append(matcher.network)
        return abi.Bits.SOURCE_IP, 1 << self.cidr_atoms.index(matcher.network)

    def all(self) -> Iterator[tuple[FieldKind, str, Word]]:
        """Every word that an automaton computes, with its field."""
        yield FieldKind.METHOD, "", self.method
        yield FieldKind.AUTHORITY, "", self.host
        for name, word in self.headers.items():
            yield FieldKind.HEADER, name, word
        for name, word in self.queries.items():
            yield FieldKind.QUERY, name, word

    @property
    def used(self) -> int:
        """Number of words that results may occupy."""
        return abi.Bits.FIRST_NAMED + len(self.headers) + len(self.queries)


def method_automaton(tables: Tables, words: Words) -> int:
    """Start of the method automaton, 0 if no condition reads the method."""
    return words.method.automaton(tables)


def host_automaton(tables: Tables, words: Words) -> int:
    """Start of the automaton of conditions on Host, 0 if there are none."""
    return words.host.automaton(tables)


def _names(tables: Tables, names: dict[str, int], *, ignore_case: bool, key: Hashable) -> int:
    """Start of the automaton that maps a name to a number."""
    if not names:
        return 0
    numbers = list(names.values())
    patterns = [(n, Pattern((encode(name),), ignore_case)) for n, name in enumerate(names)]
    return tables.automaton(
        patterns, lambda accepted: numbers[accepted.bit_length() - 1] if accepted else 0, key=(key, tuple(numbers))
    )


def header_automaton(tables: Tables, words: Words, edits: dict[str, int]) -> int:
    """Fills `headers`; start of the request-header-name automaton. `edits` maps names to edit numbers."""
    kinds = FRAMING | dict.fromkeys(DIVERTING, abi.HeaderKind.DIVERT)
    numbers: dict[str, int] = {}
    for name in sorted({*kinds, *words.headers, *edits}):
        word = words.headers.get(name)
        numbers[name] = tables.add(
            "headers",
            kind=kinds.get(name, abi.HeaderKind.POLICY),
            slot=word.slot if word else abi.NONE,
            value_dfa=word.automaton(tables) if word else 0,
            edit=edits.get(name, 0),
        )
    return _names(tables, numbers, ignore_case=True, key="headers")


def response_header_automaton(tables: Tables, edits: dict[str, int]) -> int:
    """Fills `response_headers`; start of the response-header-name automaton."""
    kinds = {name: kind for name, kind in FRAMING.items() if name != "host"}
    numbers = {
        name: tables.add(
            "response_headers",
            kind=kinds.get(name, abi.HeaderKind.POLICY),
            slot=abi.NONE,
            value_dfa=0,
            edit=edits.get(name, 0),
        )
        for name in sorted({*kinds, *edits})
    }
    return _names(tables, numbers, ignore_case=True, key="response_headers")


def query_automaton(tables: Tables, words: Words) -> int:
    """Fills `queries`; start of the query-parameter-name automaton, 0 if no condition reads any."""
    numbers = {
        name: tables.add("queries", slot=word.slot, value_dfa=word.automaton(tables))
        for name, word in words.queries.items()
    }
    return _names(tables, numbers, ignore_case=False, key="queries")
