"""Findings as a person and as a CI service see them."""

from __future__ import annotations

import pytest

from l7fp.cli import render
from l7fp.cli.output import Style, table
from l7fp.diagnostics import Diagnostics
from l7fp.source import NOWHERE, SourceFile, Span

PLAIN = Style(False)
TEXT = "spec:\n\thosts: [reviewz]\n  http: x\n"
SOURCES = {"a.yaml": SourceFile("a.yaml", TEXT)}


def _found() -> Diagnostics:
    found = Diagnostics()
    found.warning("unused-subset", NOWHERE, "a subset is never used")
    found.error("unknown-host", Span("a.yaml", 2, 10, 2, 17), "no service 'reviewz'", "did you mean 'reviews'?")
    return found


def test_text_shows_place_excerpt_carets_and_hint() -> None:
    assert render.text(_found(), SOURCES, PLAIN) == (
        "a.yaml:2:10: error[unknown-host]: no service 'reviewz'\n"
        "  2 | \thosts: [reviewz]\n"
        "    | \t        ^^^^^^^\n"
        "  hint: did you mean 'reviews'?\n"
        "\n"
        "warning[unused-subset]: a subset is never used"
    )


@pytest.mark.parametrize(
    ("span", "carets"),
    [
        (Span("a.yaml", 1, 1, 3, 4), "^^^^^"),  # to the end of the first line
        (Span("a.yaml", 1, 2, 1, 2), " ^"),  # empty: one caret
    ],
)
def test_carets_cover_the_part_of_the_span_on_its_first_line(span: Span, carets: str) -> None:
    assert render.excerpt(span, SOURCES, PLAIN)[1] == f"    | {carets}"


def test_no_excerpt_where_the_text_is_not_at_hand() -> None:
    assert render.excerpt(Span("other.yaml", 1, 1, 1, 2), SOURCES, PLAIN) == []


def test_github_annotations_escape_what_would_end_them() -> None:
    found = Diagnostics()
    found.error("x", Span("a,b:c.yaml", 1, 2, 1, 3), "100%\nwrong", "mend")
    assert (
        render.github(found) == "::error file=a%2Cb%3Ac.yaml,line=1,col=2,endLine=1,title=l7fp x::100%25%0Awrong (mend)"
    )


def test_json_sorts_by_place_and_leaves_out_a_place_that_is_none() -> None:
    values = render.as_json(_found())
    assert [v["code"] for v in values] == ["unknown-host", "unused-subset"]
    assert values[0]["place"] == {"file": "a.yaml", "line": 2, "column": 10, "end_line": 2, "end_column": 17}
    assert values[1]["place"] is None


def test_summary_counts_by_severity() -> None:
    assert render.summary(_found()) == "1 error, 1 warning"
    assert render.summary(Diagnostics()) == "no findings"


def test_table_aligns_and_leaves_no_space_at_the_end_of_a_line() -> None:
    assert table([["a", "n", ""], ["long", "7", "x"]], right=[1]) == "a     n\nlong  7  x"
