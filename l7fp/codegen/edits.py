"""Header edits, path and authority rewrites -> records of `edits`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from l7fp import abi
from l7fp.codegen.automaton import encode
from l7fp.codegen.tables import Tables
from l7fp.codegen.words import DIVERTING, FRAMING
from l7fp.ir.model import HeaderEdits

MAX_EDITED = 63
"""Distinct header names per direction that a policy version may remove or overwrite."""


class UnplannableError(Exception):
    """The kernel can't do this; the text says why, for the user."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Several edits as one: `remove` these names, then append `lines` in order."""

    remove: tuple[str, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.lines)

    def values(self, name: str, before: tuple[str, ...]) -> tuple[str, ...]:
        """Values of `name` after the edit, given those before it."""
        kept = () if name in self.remove else before
        return kept + tuple(value for n, value in self.lines if n == name)

    @property
    def names(self) -> frozenset[str]:
        """Headers that the edit may change."""
        return frozenset(self.remove) | {name for name, _ in self.lines}

    @property
    def text(self) -> bytes:
        """The appended lines as they go on the wire."""
        return b"".join(encode(name) + b": " + encode(value) + b"\r\n" for name, value in self.lines)


NO_EDIT = Merged()


def merge(edits: Iterable[HeaderEdits]) -> Merged:
    """What applying `edits` one after the other amounts to."""
    remove: dict[str, None] = {}
    lines: list[tuple[str, str]] = []
    for edit in edits:
        for name in edit.remove:
            remove[name] = None
            lines = [line for line in lines if line[0] != name]
        for name, value in edit.set:
            remove[name] = None
            lines = [line for line in lines if line[0] != name]
            lines.append((name, value))
        lines.extend(edit.add)
    return Merged(tuple(remove), tuple(lines))


@dataclass(frozen=True, slots=True)
class PathChange:
    """`strip` bytes of the path give way to `value`; `strip` None: all of it."""

    strip: int | None
    value: str


def check_plannable(merged: Merged) -> None:
    """UnplannableError if the kernel can't make this edit."""
    bad = sorted(n for n in merged.names if n in FRAMING or n in DIVERTING or n.startswith(":"))
    if bad:
        raise UnplannableError(f"the kernel leaves header {bad[0]} alone")
    if len(merged.remove) > abi.MAX_REMOVES:
        raise UnplannableError(f"more than {abi.MAX_REMOVES} headers removed or set at once")
    for name, value in merged.lines:
        if any(c in "\r\n\0" for c in name + value):
            raise UnplannableError(f"value of header {name} has a line end")
        if "%" in value:
            raise UnplannableError(f"value of header {name} has a variable")


@dataclass(slots=True)
class Edits:
    """Numbers the edited headers of both directions and writes `edits` records."""

    tables: Tables
    request: dict[str, int] = field(default_factory=dict)
    response: dict[str, int] = field(default_factory=dict)

    def record(
        self, merged: Merged, *, response: bool = False, path: PathChange | None = None, host: str | None = None
    ) -> int:
        """Index in `edits`, NONE when nothing changes. Raises UnplannableError."""
        if not merged and path is None and host is None:
            return abi.NONE
        check_plannable(merged)
        numbers = [self._number(self.response if response else self.request, name) for name in merged.remove]
        insert_off, insert_len = self.tables.text(merged.text) if merged.lines else (0, 0)
        path_off, path_len = self.tables.text(encode(path.value)) if path else (0, 0)
        host_off, host_len = self.tables.text(encode(host)) if host else (0, 0)
        op = abi.PathOp.KEEP
        if path is not None:
            op = abi.PathOp.REPLACE_ALL if path.strip is None else abi.PathOp.REPLACE_PREFIX
        return self.tables.intern(
            "edits",
            remove_count=len(numbers),
            remove=numbers,
            insert_off=insert_off,
            insert_len=insert_len,
            path_op=op,
            path_strip=(path.strip or 0) if path else 0,
            path_off=path_off,
            path_len=path_len,
            host_off=host_off,
            host_len=host_len,
        )

    def _number(self, numbers: dict[str, int], name: str) -> int:
        if name not in numbers:
            if len(numbers) >= MAX_EDITED:
                raise UnplannableError(f"more than {MAX_EDITED} different headers are removed or set")
            numbers[name] = len(numbers) + 1
        return numbers[name]
