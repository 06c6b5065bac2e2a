"""Findings about policies: a stable code, a severity, a place, a message and a hint.

Stages append to a `Diagnostics` sink and never print. Rendering lives in
`l7fp.cli.render`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from l7fp.source import NOWHERE, Span


class Severity(Enum):
    """How bad a finding is. Only ERROR stops compilation."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `code` is a key of the catalogue `l7fp/codes.toml` and never changes its meaning."""

    code: str
    severity: Severity
    span: Span
    message: str
    hint: str = ""


@dataclass(slots=True)
class Diagnostics:
    """A sink of findings, in the order in which they were made."""

    items: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, span: Span, message: str, hint: str = "") -> None:
        self.items.append(Diagnostic(code, Severity.ERROR, span, message, hint))

    def warning(self, code: str, span: Span, message: str, hint: str = "") -> None:
        self.items.append(Diagnostic(code, Severity.WARNING, span, message, hint))

    def info(self, code: str, span: Span, message: str, hint: str = "") -> None:
        self.items.append(Diagnostic(code, Severity.INFO, span, message, hint))

    @property
    def failed(self) -> bool:
        """True when any finding is an error."""
        return any(item.severity is Severity.ERROR for item in self.items)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def sorted(self) -> list[Diagnostic]:
        """By place, then code; findings without a place last."""
        return sorted(self.items, key=lambda d: (d.span == NOWHERE, d.span, d.code))
