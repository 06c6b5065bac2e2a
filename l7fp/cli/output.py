"""What the verbs print: colours where they help, tables, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Style:
    """Colours by meaning; plain text when `enabled` is false."""

    enabled: bool

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled else text

    def bad(self, text: str) -> str:
        return self._wrap("1;31", text)

    def warn(self, text: str) -> str:
        return self._wrap("1;33", text)

    def good(self, text: str) -> str:
        return self._wrap("32", text)

    def strong(self, text: str) -> str:
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)


def _wants_colour(stream: TextIO) -> bool:
    """https://no-color.org: any non-empty NO_COLOR switches colours off."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def stdout_style() -> Style:
    """Colours for standard output."""
    return Style(_wants_colour(sys.stdout))


def stderr_style() -> Style:
    """Colours for standard error."""
    return Style(_wants_colour(sys.stderr))


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: str = "") -> str:
    """Aligned columns; the first row is the header. `right` are the columns to align to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(widths[i]) if i in right else cell if i == len(row) - 1 else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def print_json(value: Any) -> None:
    """`value` on standard output; keys in the order given."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
