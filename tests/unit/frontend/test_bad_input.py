"""Whatever the text, there is a policy whose invariants hold, or an error that says why not; never an exception."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from l7fp import catalogue
from l7fp.diagnostics import Severity
from l7fp.frontend import load_text
from l7fp.ir.verify import verify

POLICIES = Path(__file__).parents[3] / "policies"
TEXTS = [path.read_text("utf-8") for path in sorted((POLICIES / "examples").glob("*.yaml"))]
TOKENS = [re.findall(r"[\w./*-]+|\s+|.", text) for text in TEXTS]
WORDS = sorted({token for tokens in TOKENS for token in tokens if not token.isspace()})
JUNK = ["null", "~", "yes", "-1", "0", "99999", "1.5", "[]", "{}", '""', "*", "{**}", "&a", "*a", "<<", "\t", "::", "é"]


def _check(text: str) -> None:
    loaded = load_text(text)
    assert (loaded.policy is None) == loaded.diagnostics.failed
    if loaded.policy is not None:
        assert verify(loaded.policy) == []
    for found in loaded.diagnostics:
        entry = catalogue.find(found.code)
        assert entry is not None
        assert found.severity in entry.severities
        assert found.message.isprintable()
        assert found.severity is not Severity.ERROR or found.span.line > 0


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    tokens = list(draw(st.sampled_from(TOKENS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(tokens) - 1))
        tokens[at] = draw(st.sampled_from(["", *JUNK, *WORDS]))
    return "".join(tokens)


@given(_mutated())
@settings(max_examples=150, deadline=None)
def test_mutated_examples(text: str) -> None:
    _check(text)


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    _check(text)


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=50, deadline=None)
def test_text_cut_short(text: str, data: st.DataObject) -> None:
    _check(text[: data.draw(st.integers(0, len(text)))])
