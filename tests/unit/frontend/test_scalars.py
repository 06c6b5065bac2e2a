"""YAML 1.1 traps: the schema's type decides, and what readers disagree on is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from l7fp.frontend import scalars
from l7fp.frontend.yaml import Scalar
from l7fp.source import NOWHERE


def _plain(value: str) -> Scalar:
    return Scalar(value, False, NOWHERE)


def _quoted(value: str) -> Scalar:
    return Scalar(value, True, NOWHERE)


@pytest.mark.parametrize("value", ["web", "v1", "1:30", "2026-01-01", "1.2.3", "y", "n", "0x", "1e", "a-b", "/path"])
def test_plain_text_is_text(value: str) -> None:
    assert scalars.text(_plain(value)) == value


@pytest.mark.parametrize(
    "value",
    [*("yes", "No", "ON", "off", "true", "False", "17", "017", "0o17", "0x1F", "0b11", "1_000", "1.10", ".5", "-3"),
     *("1e5", "+1", ".inf", "-.INF", ".nan", "", "~", "null")],
)  # fmt: skip
def test_text_that_some_reader_takes_for_something_else_needs_quotes(value: str) -> None:
    with pytest.raises(scalars.Unreadable) as refused:
        scalars.text(_plain(value))
    assert "quotes" in refused.value.args[1] or '""' in refused.value.args[1]
    assert scalars.text(_quoted(value)) == value


@pytest.mark.parametrize(("value", "number"), [("0", 0), ("80", 80), ("-1", -1), ("65535", 65535)])
def test_plain_decimal_is_an_integer(value: str, number: int) -> None:
    assert scalars.integer(_plain(value)) == number


@pytest.mark.parametrize("value", ["080", "0o17", "0x50", "1_000", "1:30", "80.0", "1e3", "+1", "eighty", ""])
def test_other_spellings_of_integers_are_refused(value: str) -> None:
    with pytest.raises(scalars.Unreadable):
        scalars.integer(_plain(value))


@pytest.mark.parametrize("read", [scalars.integer, scalars.number, scalars.boolean])
def test_quotes_make_text(read: Callable[[Scalar], object]) -> None:
    for value in ("1", "true"):
        with pytest.raises(scalars.Unreadable):
            read(_quoted(value))


def test_booleans_are_true_and_false_alone() -> None:
    assert scalars.boolean(_plain("true")) is True
    assert scalars.boolean(_plain("FALSE")) is False
    for value in ("yes", "on", "Off", "1", "y", ""):
        with pytest.raises(scalars.Unreadable):
            scalars.boolean(_plain(value))


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [("0s", 0), ("5s", 5 * 10**9), ("1.5s", 1_500_000_000), ("1h30m", 5400 * 10**9), ("250ms", 250 * 10**6),
     ("10us", 10_000), ("7ns", 7), (".5s", 500_000_000)],
)  # fmt: skip
def test_durations_have_units(value: str, nanoseconds: int) -> None:
    assert scalars.duration_ns(_plain(value)) == nanoseconds


@pytest.mark.parametrize("value", ["5", "5 s", "s", "-1s", "1d", "1.5", "", "1s5", "PT5S"])
def test_other_durations_are_refused(value: str) -> None:
    with pytest.raises(scalars.Unreadable) as refused:
        scalars.duration_ns(_plain(value))
    assert refused.value.args[2] == "L7FP209"
