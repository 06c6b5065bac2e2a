"""Bar charts as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_BAR, _GAP, _LABEL, _WIDTH, _VALUE = 20, 8, 190, 420, 90
_FONT = "font-family='sans-serif' font-size='12'"


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """One horizontal bar for each (label, value, value as text), longest = largest value. `l7fp` rows are darker."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    height = 34 + len(rows) * (_BAR + _GAP)
    width = _LABEL + _WIDTH + _VALUE
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        f"<text x='8' y='18' font-weight='bold' {_FONT}>{escape(title)}</text>",
    ]
    for number, (label, value, text) in enumerate(rows):
        y = 28 + number * (_BAR + _GAP)
        length = max(1, round(_WIDTH * value / largest))
        colour = "#1f5fa8" if label.startswith("l7fp") else "#9db4cc"
        out.append(f"<text x='{_LABEL - 8}' y='{y + 14}' text-anchor='end' {_FONT}>{escape(label)}</text>")
        out.append(f"<rect x='{_LABEL}' y='{y}' width='{length}' height='{_BAR}' fill='{colour}'/>")
        out.append(f"<text x='{_LABEL + length + 6}' y='{y + 14}' {_FONT}>{escape(text)}</text>")
    return "\n".join([*out, "</svg>", ""])
