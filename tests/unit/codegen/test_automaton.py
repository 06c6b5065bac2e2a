"""Automata say what a brute-force matcher says, and the cells say what the automata say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l7fp import abi
from l7fp.codegen import automaton as au
from l7fp.ir.model import StringKind, StringMatch

ALPHABET = "ab/A."


def holds(matcher: StringMatch, text: str) -> bool:
    value = matcher.value
    if matcher.ignore_case:
        value, text = value.lower(), text.lower()
    match matcher.kind:
        case StringKind.EXACT:
            return text == value
        case StringKind.PREFIX:
            return text.startswith(value)
        case StringKind.SUFFIX:
            return text.endswith(value)
        case StringKind.CONTAINS:
            return value in text
        case StringKind.PRESENT:
            return True
        case _:
            return template_holds(value, text)


def template_holds(template: str, text: str) -> bool:
    """Backtracking reference of `{*}` and `{**}`."""
    if not template:
        return not text
    if template.startswith("{**}"):
        return any(template_holds(template[4:], text[n:]) for n in range(len(text) + 1) if segment(text[:n], "/"))
    if template.startswith("{*}"):
        return any(template_holds(template[3:], text[n:]) for n in range(1, len(text) + 1) if segment(text[:n], ""))
    return text[:1] == template[:1] and template_holds(template[1:], text[1:])


def segment(text: str, extra: str) -> bool:
    return all(ord(c) in au.SEGMENT_BYTES or c in extra for c in text)


text_values = st.text(ALPHABET, max_size=5)
plain_matchers = st.builds(
    StringMatch,
    st.sampled_from([StringKind.EXACT, StringKind.PREFIX, StringKind.SUFFIX, StringKind.CONTAINS, StringKind.PRESENT]),
    text_values,
    st.booleans(),
)
templates = st.lists(st.sampled_from(["a", "b", "/", "{*}", "{**}"]), max_size=5).map(
    lambda pieces: StringMatch(StringKind.PATH_TEMPLATE, "".join(pieces))
)
matcher_lists = st.lists(st.one_of(plain_matchers, templates), min_size=1, max_size=6)


def compiled(matchers: list[StringMatch], decisive: int = 0) -> tuple[au.Automaton, tuple[int, ...], int]:
    automaton = au.build([(n, au.pattern_of(m)) for n, m in enumerate(matchers)], lambda mask: mask, decisive=decisive)
    table = au.CellTable()
    other = table.add(au.build([(0, au.pattern_of(StringMatch(StringKind.EXACT, "ab")))], lambda mask: mask))
    start = table.add(automaton)
    data = table.to_bytes()
    cells = struct.unpack(f"<{len(data) // 8}Q", data)
    assert au.lookup(cells, other, b"ab") == 1
    return automaton, cells, start


@settings(max_examples=150, deadline=None)
@given(matchers=matcher_lists, texts=st.lists(st.text(ALPHABET + "é?", max_size=8), min_size=1, max_size=12))
def test_every_pattern_that_holds_is_reported_and_no_other(matchers: list[StringMatch], texts: list[str]) -> None:
    automaton, cells, start = compiled(matchers)
    for text in texts:
        want = sum(1 << n for n, m in enumerate(matchers) if holds(m, text))
        data = text.encode()
        assert automaton.run(data) == want
        assert au.lookup(cells, start, data) == want


@settings(max_examples=100, deadline=None)
@given(matchers=matcher_lists, texts=st.lists(st.text(ALPHABET, max_size=8), min_size=1, max_size=12))
def test_first_match_survives_pruning(matchers: list[StringMatch], texts: list[str]) -> None:
    every = (1 << len(matchers)) - 1
    _, cells, start = compiled(matchers, decisive=every)
    for text in texts:
        found = au.lookup(cells, start, text.encode())
        want = next((n for n, m in enumerate(matchers) if holds(m, text)), None)
        assert (found & -found).bit_length() - 1 == (want if want is not None else -1)


def test_sink_flag_is_set_where_no_byte_matters_any_more() -> None:
    _, cells, start = compiled([StringMatch(StringKind.PREFIX, "/a")])
    state = start
    for byte in b"/a":
        assert not cells[state] & abi.DFA_SINK
        state = cells[state + 1 + byte] >> 32
    assert cells[state] & abi.DFA_SINK


def test_an_automaton_that_has_an_output_for_nothing_never_dies() -> None:
    automaton = au.build([(0, au.pattern_of(StringMatch(StringKind.EXACT, "a")))], lambda mask: mask + 5)
    assert automaton.run(b"zzz") == 5
    assert automaton.run(b"a") == 6


def test_table_is_a_padded_power_of_two_and_the_same_every_time() -> None:
    one, two = compiled([StringMatch(StringKind.PREFIX, "/x")]), compiled([StringMatch(StringKind.PREFIX, "/x")])
    assert one[1] == two[1]
    size = len(one[1])
    assert size & (size - 1) == 0
    assert all(cell == 0 for cell in one[1][-256:])


def test_bytes_that_are_not_utf8_match_themselves() -> None:
    automaton, _, _ = compiled([StringMatch(StringKind.EXACT, b"\xff/".decode("utf-8", "surrogateescape"))])
    assert automaton.run(b"\xff/") == 1


def test_an_explosion_is_refused() -> None:
    patterns = [(n, au.pattern_of(StringMatch(StringKind.CONTAINS, f"{n:02d}"))) for n in range(40)]
    with pytest.raises(au.BudgetError, match="more than 500 states"):
        au.build(patterns, lambda mask: mask, max_states=500)


def test_a_regular_expression_is_no_pattern() -> None:
    with pytest.raises(ValueError, match="regular expression"):
        au.pattern_of(StringMatch(StringKind.REGEX, "a.*"))
