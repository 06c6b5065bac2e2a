"""String patterns of one field -> deterministic byte automaton -> cells of the shared double array.

A pattern is a sequence of elements: literals, runs of bytes from a set, and `REST` (anything may follow).
All patterns of a field share a trie whose edges are bytes or elements; the subset construction runs on it
on the fly. What an automaton says about a text is one u32 that a callback makes of the set of accepted
pattern numbers, so the same builder serves hosts, paths, header names, header values and methods.

Sets of pattern numbers are `int` bit masks. Lower numbers come first in first-match order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from l7fp import abi
from l7fp.errors import L7fpError
from l7fp.ir.model import StringKind, StringMatch

MAX_STATES = 60_000
MAX_CELLS = 1 << 22
_NEXT_MASK = 0x3FFFFFFF
_ALL = frozenset(range(256))


class BudgetError(L7fpError):
    """An automaton or the table of all automata would become too large. Its rules belong on the slow path."""


@dataclass(frozen=True, slots=True)
class Run:
    """At least `least` (0 or 1) bytes of `bytes`."""

    bytes: frozenset[int]
    least: int


REST = Run(_ALL, 0)
"""As the last element: the pattern holds whatever follows."""

Element = bytes | Run


@dataclass(frozen=True, slots=True)
class Pattern:
    """`elements` in order; letters of either case are equal when `ignore_case` (ASCII, as Envoy compares)."""

    elements: tuple[Element, ...]
    ignore_case: bool = False


def encode(text: str) -> bytes:
    """Bytes of a request that model text stands for."""
    return text.encode("utf-8", "surrogateescape")


# Envoy's uri_template matcher: `*` is one or more and `**` zero or more of these; `**` also crosses `/`.
SEGMENT_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()+,;:@=*")


def pattern_of(matcher: StringMatch) -> Pattern:
    """The pattern of any matcher but REGEX (ValueError)."""
    text = encode(matcher.value)
    match matcher.kind:
        case StringKind.EXACT:
            elements: tuple[Element, ...] = (text,)
        case StringKind.PREFIX:
            elements = (text, REST)
        case StringKind.SUFFIX:
            elements = (REST, text)
        case StringKind.CONTAINS:
            elements = (REST, text, REST)
        case StringKind.PRESENT:
            elements = (REST,)
        case StringKind.PATH_TEMPLATE:
            return template_pattern(matcher.value, matcher.ignore_case)
        case StringKind.REGEX:
            raise ValueError("a regular expression is no pattern")
    return Pattern(tuple(e for e in elements if e != b""), matcher.ignore_case)


def template_pattern(template: str, ignore_case: bool = False) -> Pattern:
    """Istio's path template: `{*}` is one path segment, `{**}` any number of them, as raw text."""
    elements: list[Element] = []
    for n, piece in enumerate(template.replace("{**}", "\0**\0").replace("{*}", "\0*\0").split("\0")):
        if n % 2 == 0:
            if piece:
                elements.append(encode(piece))
        elif piece == "*":
            elements.append(Run(SEGMENT_BYTES, 1))
        else:
            elements.append(Run(SEGMENT_BYTES | {0x2F}, 0))
    return Pattern(tuple(elements), ignore_case)


# --- the trie ----------------------------------------------------------------------------------


class _Trie:
    """Nodes as parallel lists. `loop`: bytes that keep the node; `ends`: patterns accepted if the text
    ends here; `certain`: patterns accepted whatever follows; `first`: lowest pattern below."""

    def __init__(self) -> None:
        self.edges: list[dict[int, int]] = []
        self.runs: list[dict[Run, int]] = []
        self.loop: list[frozenset[int]] = []
        self.ends: list[int] = []
        self.certain: list[int] = []
        self.first: list[int] = []
        self.roots: dict[bool, int] = {}

    def node(self, number: int, loop: frozenset[int] = frozenset()) -> int:
        self.edges.append({})
        self.runs.append({})
        self.loop.append(loop)
        self.ends.append(0)
        self.certain.append(0)
        self.first.append(number)
        return len(self.edges) - 1

    def add(self, pattern: Pattern, number: int) -> None:
        fold = pattern.ignore_case
        if fold not in self.roots:
            self.roots[fold] = self.node(number)
        at = self.roots[fold]
        self.first[at] = min(self.first[at], number)
        last = len(pattern.elements) - 1
        for n, element in enumerate(pattern.elements):
            if n == last and element == REST:
                self.certain[at] |= 1 << number
                return
            if isinstance(element, Run):
                at = self._child_run(at, element, number)
                continue
            for byte in element.lower() if fold else element:
                at = self._child(at, byte, number, fold)
        self.ends[at] |= 1 << number

    def _child(self, at: int, byte: int, number: int, fold: bool) -> int:
        child = self.edges[at].get(byte)
        if child is None:
            child = self.node(number)
            self.edges[at][byte] = child
            if fold and 97 <= byte <= 122:
                self.edges[at][byte - 32] = child
        self.first[child] = min(self.first[child], number)
        return child

    def _child_run(self, at: int, run: Run, number: int) -> int:
        child = self.runs[at].get(run)
        if child is None:
            child = self.runs[at][run] = self.node(number, run.bytes)
        self.first[child] = min(self.first[child], number)
        return child

    def closure(self, nodes: Iterable[int]) -> set[int]:
        """`nodes` and what their runs of least 0 reach without a byte."""
        seen = set(nodes)
        todo = list(seen)
        while todo:
            for run, child in self.runs[todo.pop()].items():
                if run.least == 0 and child not in seen:
                    seen.add(child)
                    todo.append(child)
        return seen


# --- subset construction -----------------------------------------------------------------------


@dataclass(slots=True)
class Automaton:
    """States 1.. (0 is dead): `default[s]` next state, `edges[s]` the bytes that go elsewhere, `output[s]`."""

    default: list[int] = field(default_factory=lambda: [0])
    edges: list[dict[int, int]] = field(default_factory=lambda: [{}])
    output: list[int] = field(default_factory=lambda: [0])
    start: int = 0

    def run(self, text: bytes) -> int:
        """Output for `text`; the reference of `l7_dfa_next`."""
        state = self.start
        for byte in text:
            state = self.edges[state].get(byte, self.default[state])
        return self.output[state]


def build(
    patterns: Sequence[tuple[int, Pattern]],
    output: Callable[[int], int],
    *,
    decisive: int = 0,
    max_states: int = MAX_STATES,
) -> Automaton:
    """Automaton of `patterns` (number, pattern); several patterns may share a number.

    `output` maps the set of accepted numbers to what the automaton says. Once a number of `decisive` is
    certain, higher numbers don't matter and may be missing from the set. Raises BudgetError.
    """
    trie = _Trie()
    for number, pattern in patterns:
        trie.add(pattern, number)
    return _Subset(trie, output, decisive, max_states).run()


class _Subset:
    def __init__(self, trie: _Trie, output: Callable[[int], int], decisive: int, max_states: int) -> None:
        self.trie, self.decisive, self.max_states = trie, decisive, max_states
        self.make_output = output
        self.outputs: dict[int, int] = {}
        self.states: dict[tuple[tuple[int, ...], int], int] = {}
        self.todo: list[tuple[tuple[int, ...], int]] = []
        self.grouped: dict[tuple[frozenset[int], ...], list[tuple[tuple[bool, ...], frozenset[int]]]] = {}
        self.out = Automaton()

    def run(self) -> Automaton:
        self.out.start = self.state(self.trie.closure(self.trie.roots.values()), 0)
        done = 0
        while done < len(self.todo):
            nodes, certain = self.todo[done]
            done += 1
            self.expand(done, nodes, certain)
        return self.out

    def say(self, accepted: int) -> int:
        if accepted not in self.outputs:
            self.outputs[accepted] = self.make_output(accepted)
        return self.outputs[accepted]

    def state(self, nodes: set[int], certain: int) -> int:
        """Number of the state that stands for these trie nodes, `certain` being accepted already."""
        trie = self.trie
        for node in nodes:
            certain |= trie.certain[node]
        live: list[int] = []
        sure = certain & self.decisive
        if sure:
            lowest = sure & -sure
            certain &= lowest | (lowest - 1)
            limit = lowest.bit_length() - 1
            live = sorted(n for n in nodes if trie.first[n] < limit and self.has_future(n))
        else:
            live = sorted(n for n in nodes if self.has_future(n))
        if not live and self.say(certain) == 0:
            return 0
        key = (tuple(live), certain)
        found = self.states.get(key)
        if found is None:
            if len(self.todo) >= self.max_states:
                raise BudgetError(f"an automaton needs more than {self.max_states} states")
            self.todo.append(key)
            found = self.states[key] = len(self.todo)
            accepted = certain
            for node in live:
                accepted |= trie.ends[node]
            self.out.output.append(self.say(self.clip(accepted)))
            self.out.default.append(0)
            self.out.edges.append({})
        return found

    def clip(self, accepted: int) -> int:
        sure = accepted & self.decisive
        return accepted & ((sure & -sure) * 2 - 1) if sure else accepted

    def has_future(self, node: int) -> bool:
        trie = self.trie
        return bool(trie.edges[node] or trie.runs[node] or trie.ends[node])

    def expand(self, number: int, nodes: tuple[int, ...], certain: int) -> None:
        """Fill in the transitions of state `number`."""
        trie = self.trie
        if len(nodes) <= 1 and not any(trie.loop[n] or trie.runs[n] for n in nodes):
            # a plain trie node, nearly always: no byte but those of its edges leads anywhere
            default = self.state(set(), certain)
            self.out.default[number] = default
            if nodes:
                edges = self.out.edges[number]
                for byte, child in trie.edges[nodes[0]].items():
                    to = self.state(trie.closure((child,)), certain)
                    if to != default:
                        edges[byte] = to
            return
        sets: list[frozenset[int]] = []
        into: list[int] = []
        own: dict[int, list[int]] = {}
        for node in nodes:
            if trie.loop[node]:
                sets.append(trie.loop[node])
                into.append(node)
            for run, child in trie.runs[node].items():
                if run.least:
                    sets.append(run.bytes)
                    into.append(child)
            for byte, child in trie.edges[node].items():
                own.setdefault(byte, []).append(child)
        classes = self.classes(tuple(sets))
        reached = [[to for inside, to in zip(signature, into, strict=True) if inside] for signature, _ in classes]
        default = self.out.default[number] = self.state(trie.closure(reached[0]), certain)
        edges = self.out.edges[number]
        for nth, (_, members) in enumerate(classes):
            to = default if nth == 0 else self.state(trie.closure(reached[nth]), certain)
            if to != default:
                edges.update((byte, to) for byte in members if byte not in own)
            for byte in own.keys() & members:
                there = self.state(trie.closure(reached[nth] + own[byte]), certain)
                if there != default:
                    edges[byte] = there

    def classes(self, sets: tuple[frozenset[int], ...]) -> list[tuple[tuple[bool, ...], frozenset[int]]]:
        """Bytes grouped by which of `sets` they are in, the largest group first."""
        if sets not in self.grouped:
            groups: dict[tuple[bool, ...], set[int]] = {}
            for byte in range(256):
                groups.setdefault(tuple(byte in members for members in sets), set()).add(byte)
            ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), min(item[1])))
            self.grouped[sets] = [(signature, frozenset(members)) for signature, members in ranked]
        return self.grouped[sets]


# --- the double array --------------------------------------------------------------------------


class CellTable:
    """Collects automata into one table of cells (format: `templates/dfa.h`)."""

    def __init__(self, max_cells: int = MAX_CELLS) -> None:
        self.max_cells = max_cells
        self.cells = array("Q", [abi.DFA_HEADER | abi.DFA_SINK])
        self.used = bytearray(b"\x01")
        self.low = 1
        self.hints: dict[bytes, int] = {}

    def add(self, automaton: Automaton) -> int:
        """Place the states of `automaton`; the cell index of its start state (0: it never says anything)."""
        count = len(automaton.output)
        place = [0] * count
        # wide rows first: they are hard to fit; equal rows only fit at rising places, which the hints follow
        for state in sorted(range(1, count), key=lambda s: (-len(automaton.edges[s]), s)):
            place[state] = self._fit(bytes(sorted(automaton.edges[state])))
        for state in range(1, count):
            self._write(automaton, state, place)
        return place[automaton.start]

    def _fit(self, row: bytes) -> int:
        used = self.used
        at = max(self.low, self.hints.get(row, 1))
        tries = 0
        while True:
            at = used.find(0, at)
            if at < 0 or at + 257 >= len(used):
                used.extend(bytes(len(used) // 2 + 1024))
                at = max(at, 1)
                if used[at]:
                    continue
            if not any(used[at + 1 + byte] for byte in row):
                break
            at += 1
            tries += 1
        used[at] = 1
        for byte in row:
            used[at + 1 + byte] = 1
        self.hints[row] = at + 1
        if not row:
            self.low = max(self.low, at + 1)
        elif tries > 500:
            self.low = max(self.low, at - 4096)  # a crowded stretch: leave what is free of it
        if at + 257 > self.max_cells:
            raise BudgetError(f"the automata need more than {self.max_cells} cells")
        return at

    def _write(self, automaton: Automaton, state: int, place: list[int]) -> None:
        at = place[state]
        if len(self.cells) < at + 257:
            self.cells.extend([0] * (at + 257 - len(self.cells) + 4096))
        default, edges = automaton.default[state], automaton.edges[state]
        sink = abi.DFA_SINK if default == state and not edges else 0
        self.cells[at] = place[default] | abi.DFA_HEADER | sink | automaton.output[state] << 32
        for byte, to in edges.items():
            self.cells[at + 1 + byte] = at | place[to] << 32

    def to_bytes(self) -> bytes:
        """The table, little endian, its length a power of two of cells."""
        top = len(self.cells)
        while top > 1 and not self.cells[top - 1]:
            top -= 1
        size = 512
        while size < top + 257:
            size *= 2
        cells = self.cells[:top]
        return struct.pack(f"<{top}Q", *cells) + bytes(8 * (size - top))


def lookup(cells: Sequence[int], start: int, text: bytes) -> int:
    """Output of the automaton at `start` for `text`: what the C code computes."""
    state = start
    for byte in text:
        cell = cells[state + 1 + byte]
        state = cell >> 32 if cell & 0xFFFFFFFF == state else cells[state] & _NEXT_MASK
    return cells[state] >> 32
