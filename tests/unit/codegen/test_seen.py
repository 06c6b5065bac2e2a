"""Conditions pulled back through a prefix rewrite hold of the original path where they hold of the new one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l7fp.codegen import automaton
from l7fp.codegen.seen import literal_prefix, pull_back
from l7fp.ir.matching import compile_regex, compile_string, lower
from l7fp.ir.model import StringKind, StringMatch

texts = st.text("ab/A", max_size=4)
matchers = st.builds(
    StringMatch,
    st.sampled_from([StringKind.EXACT, StringKind.PREFIX, StringKind.SUFFIX, StringKind.CONTAINS]),
    texts,
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(matcher=matchers, old=texts, new=texts, rest=st.text("ab/A", max_size=5))
def test_pulled_back_pattern_agrees_with_the_rewritten_path(
    matcher: StringMatch, old: str, new: str, rest: str
) -> None:
    found = pull_back(matcher, old, new)
    want = compile_string(matcher)(new + rest)
    if found is True:
        assert want
        return
    built = automaton.build([(0, pattern) for pattern in found], lambda accepted: accepted)
    assert bool(built.run((old + rest).encode())) == want


@pytest.mark.parametrize(
    ("regex", "literal"),
    [
        ("/users/[0-9]+", "/users/"),
        ("/ab*", "/a"),
        ("/ab?c", "/a"),
        ("/ab{2}", "/a"),
        ("/ab+", "/ab"),
        ("/a|/b", ""),
        ("(?i)/a", ""),
        (r"/a\.b.*", "/a.b"),
        (r"/a\d", "/a"),
        ("^/x$", "/x"),
    ],
)
def test_literal_prefix_of_a_regular_expression(regex: str, literal: str) -> None:
    assert literal_prefix(regex) == literal


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["/", "a", "b", ".", "*", "+", "?", "(", ")", "[ab]", "|", "{1}", r"\.", r"\d"]), max_size=6
    )
)
def test_what_a_regular_expression_matches_begins_with_its_literal_prefix(pieces: list[str]) -> None:
    pattern = "".join(pieces)
    try:
        test = compile_regex(pattern)
    except ValueError:
        return
    literal = literal_prefix(pattern)
    for text in ("", "/", "/a", "/ab", "a", "ab", "aa", "/a.b", "b", ".", "/1", "1", "//", "abab"):
        if test(text):
            assert text.startswith(literal)


def test_folding_is_ascii_only() -> None:
    assert lower("ÀK") == "Àk"
