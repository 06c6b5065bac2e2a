"""Places in policy text.

A `SourceFile` is text with a name; a `Span` is a half-open range of it, kept as
1-based line and column so that every later stage can point a user at the line
that a decision came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One policy text. `name` is the path as the user gave it, or `<stdin>`."""

    name: str
    text: str = field(repr=False, compare=False)

    def line(self, number: int) -> str:
        """Text of 1-based line `number`, without its end; empty when there is none."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place: file name, 1-based line and column, and where it ends (exclusive column)."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Span("<built-in>", 0, 0, 0, 0)
"""The place of what no user wrote (defaults that a dialect implies)."""
