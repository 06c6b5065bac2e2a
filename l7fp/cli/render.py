"""Findings as text with an excerpt, as JSON, or as annotations of a CI service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l7fp.cli.output import Style
from l7fp.diagnostics import Diagnostic, Diagnostics, Severity
from l7fp.source import NOWHERE, SourceFile, Span

FORMATS = ("text", "json", "github")
_LONGEST_EXCERPT = 160


def excerpt(span: Span, sources: Mapping[str, SourceFile], style: Style) -> list[str]:
    """The line that `span` starts in and a line of carets below it; nothing when the text is not at hand."""
    source = sources.get(span.file)
    line = source.line(span.line) if source else ""
    if not line.strip():
        return []
    start = max(0, span.column - 1)
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    shown = line[:_LONGEST_EXCERPT]
    number = str(span.line)
    # a tab before the carets stays a tab, so that they stand below their text
    pad = "".join("\t" if c == "\t" else " " for c in shown[:start])
    carets = "^" * max(1, min(end, len(shown)) - start)
    margin = " " * len(number)
    return [f"  {style.dim(f'{number} |')} {shown}", f"  {style.dim(f'{margin} |')} {pad}{style.warn(carets)}"]


def _severity(severity: Severity, style: Style) -> str:
    match severity:
        case Severity.ERROR:
            return style.bad("error")
        case Severity.WARNING:
            return style.warn("warning")
        case Severity.INFO:
            return style.strong("info")


def text(diagnostics: Diagnostics, sources: Mapping[str, SourceFile], style: Style) -> str:
    """One paragraph for each finding, in the order of their places."""
    parts = []
    for item in diagnostics.sorted():
        place = "" if item.span == NOWHERE else f"{item.span}: "
        lines = [f"{style.strong(place)}{_severity(item.severity, style)}[{item.code}]: {item.message}"]
        lines += excerpt(item.span, sources, style)
        if item.hint:
            lines.append(f"  {style.dim('hint:')} {item.hint}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def place(span: Span) -> dict[str, Any] | None:
    """A place as JSON."""
    if span == NOWHERE:
        return None
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def as_json(diagnostics: Diagnostics) -> list[dict[str, Any]]:
    """Findings as values, sorted as in the text."""
    return [
        {
            "code": item.code,
            "severity": item.severity.value,
            "place": place(item.span),
            "message": item.message,
            "hint": item.hint,
        }
        for item in diagnostics.sorted()
    ]


def _escape(value: str, *, parameter: bool = False) -> str:
    """Workflow commands escape %, CR and LF, and in parameters `:` and `,` too."""
    value = value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return value.replace(":", "%3A").replace(",", "%2C") if parameter else value


def github(diagnostics: Diagnostics) -> str:
    """GitHub workflow commands, one line for each finding."""
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
    return "\n".join(_annotation(words[item.severity], item) for item in diagnostics.sorted())


def _annotation(word: str, item: Diagnostic) -> str:
    parameters = {"title": f"l7fp {item.code}"}
    if item.span != NOWHERE:
        parameters = {
            "file": item.span.file,
            "line": str(item.span.line),
            "col": str(item.span.column),
            "endLine": str(item.span.end_line),
            **parameters,
        }
    listed = ",".join(f"{name}={_escape(value, parameter=True)}" for name, value in parameters.items())
    message = f"{item.message} ({item.hint})" if item.hint else item.message
    return f"::{word} {listed}::{_escape(message)}"


def summary(diagnostics: Diagnostics) -> str:
    """`2 errors, 1 warning`; `no findings`."""
    counts = [(s, sum(d.severity is s for d in diagnostics)) for s in Severity]
    words: Sequence[str] = [_count(n, s.value) for s, n in counts if n]
    return ", ".join(words) or "no findings"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 or word == "info" else f"{n} {word}s"
