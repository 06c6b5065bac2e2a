"""The tables of a plan while they grow: records, constant bytes, masks, automata; equal ones are stored once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from l7fp import abi
from l7fp.codegen import automaton
from l7fp.codegen.automaton import BudgetError, CellTable, Pattern


@dataclass(slots=True)
class Tables:
    """`rows` by table name hold packed records; `cells` and `blob` are kept apart until `packed`."""

    rows: dict[str, list[bytes]] = field(default_factory=lambda: {t.name: [] for t in abi.TABLES})
    cells: CellTable = field(default_factory=CellTable)
    blob: bytearray = field(default_factory=bytearray)
    _known: dict[tuple[str, bytes], int] = field(default_factory=dict)
    _texts: dict[bytes, int] = field(default_factory=dict)
    _replies: dict[Hashable, int] = field(default_factory=dict)
    _automata: dict[Hashable, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("masks", "headers", "response_headers", "queries"):
            self.rows[name].append(bytes(element_size(name)))  # index 0 is "nothing"

    def add(self, table: str, **values: int | tuple[int, ...] | list[int]) -> int:
        """Append a record; its index."""
        self.rows[table].append(abi.BY_NAME[_ELEMENTS[table]].pack(**values))
        return len(self.rows[table]) - 1

    def intern(self, table: str, **values: int | tuple[int, ...] | list[int]) -> int:
        """Index of a record with these values, added if there is none."""
        record = abi.BY_NAME[_ELEMENTS[table]].pack(**values)
        key = (table, record)
        if key not in self._known:
            self.rows[table].append(record)
            self._known[key] = len(self.rows[table]) - 1
        return self._known[key]

    def mask(self, bits: int) -> int:
        """Index in `masks` of the word `bits`; 0 for no bits."""
        if not bits:
            return 0
        record = bits.to_bytes(8, "little")
        key = ("masks", record)
        if key not in self._known:
            self.rows["masks"].append(record)
            self._known[key] = len(self.rows["masks"]) - 1
        return self._known[key]

    def text(self, data: bytes) -> tuple[int, int]:
        """Offset and length of `data` in `blob`."""
        if data not in self._texts:
            self._texts[data] = len(self.blob)
            self.blob += data
        return self._texts[data], len(data)

    def reply(self, status: int, parts: list[tuple[int, int, int]], head_count: int) -> int:
        """Index in `replies` of this sequence of parts (kind, off, len)."""
        key = (status, tuple(parts), head_count)
        if key not in self._replies:
            first = len(self.rows["parts"])
            for kind, off, length in parts:
                self.add("parts", kind=kind, off=off, len=length)
            self._replies[key] = self.add(
                "replies", first=first, count=len(parts), head_count=head_count, status=status
            )
        return self._replies[key]

    def automaton(
        self,
        patterns: Sequence[tuple[int, Pattern]],
        output: Callable[[int], int],
        *,
        key: Hashable,
        decisive: int = 0,
        max_states: int = automaton.MAX_STATES,
    ) -> int:
        """Start cell of the automaton. Those with the same patterns, `decisive` and `key` (which stands
        for what `output` does) are one. Raises BudgetError."""
        full_key = (tuple(patterns), decisive, key)
        if full_key not in self._automata:
            built = automaton.build(patterns, output, decisive=decisive, max_states=max_states)
            self._automata[full_key] = self.cells.add(built)
        return self._automata[full_key]

    def packed(self) -> tuple[dict[str, bytes], dict[str, int]]:
        """Bytes and number of records of every table. No table is empty: a lone record of zeros pads it."""
        data: dict[str, bytes] = {}
        counts: dict[str, int] = {}
        for table in abi.TABLES:
            if table.name == "cells":
                data["cells"] = self.cells.to_bytes()
            elif table.name == "blob":
                data["blob"] = bytes(self.blob) + bytes(power_of_two(max(len(self.blob), 8)) - len(self.blob))
            else:
                data[table.name] = b"".join(self.rows[table.name]) or bytes(element_size(table.name))
            counts[table.name] = len(data[table.name]) // element_size(table.name)
        return data, counts


_ELEMENTS = {t.name: t.element for t in abi.TABLES}
_INTEGERS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def element_size(table: str) -> int:
    """Bytes of one record of `table`."""
    element = _ELEMENTS[table]
    return _INTEGERS[element] if element in _INTEGERS else abi.BY_NAME[element].size


def power_of_two(least: int) -> int:
    """The smallest power of two that is not below `least`."""
    return 1 << (least - 1).bit_length()


__all__ = ["BudgetError", "Tables", "element_size", "power_of_two"]
