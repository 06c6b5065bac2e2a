"""Differences and all-or-nothing steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7fp.errors import L7fpError, LoadError
from l7fp.loader.reconcile import Transaction, difference

TABLES = st.dictionaries(st.integers(0, 9), st.integers(0, 3))


@given(live=TABLES, desired=TABLES)
def test_difference_turns_live_into_desired_and_back(live: dict[int, int], desired: dict[int, int]) -> None:
    change = difference(live, desired)
    table = dict(live)
    table.update(change.store)
    for key in change.remove:
        del table[key]
    assert table == desired
    for key in change.store:
        table.pop(key)
    table.update(change.previous)
    assert table == live
    assert bool(change) == (live != desired)


def test_difference_leaves_what_is_right_alone() -> None:
    change = difference({1: 1, 2: 2, 3: 3}, {1: 1, 2: 5, 4: 4})
    assert (change.store, change.remove, change.previous) == ({2: 5, 4: 4}, (3,), {2: 2, 3: 3})


def _run(log: list[str], failing: str, error: BaseException) -> None:
    with Transaction() as steps:
        for name in "abc":
            if name == failing:
                raise error
            steps.step(name, lambda name=name: log.append(f"do {name}"), lambda name=name: log.append(f"undo {name}"))


def test_success_undoes_nothing() -> None:
    log: list[str] = []
    _run(log, "none", ValueError())
    assert log == ["do a", "do b", "do c"]


@pytest.mark.parametrize("error", [LoadError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_failure_undoes_in_reverse_order_and_comes_out(error: BaseException) -> None:
    log: list[str] = []
    with pytest.raises(type(error)) as caught:
        _run(log, "c", error)
    assert caught.value is error
    assert log == ["do a", "do b", "undo b", "undo a"]


def test_other_errors_become_load_errors_that_name_the_step() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(LoadError, match=r"^pin map conns: No space left on device$"), Transaction() as steps:
        steps.step("pin map conns", fail)


def test_step_that_fails_is_not_undone_itself() -> None:
    log: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(LoadError), Transaction() as steps:
        steps.step("a", fail, lambda: log.append("undo a"))
    assert log == []


def test_on_step_may_veto() -> None:
    log: list[str] = []

    def veto(step: str) -> None:
        if step == "b":
            raise RuntimeError("not b")

    def change() -> None:
        with Transaction(veto) as steps:
            steps.step("a", lambda: log.append("do a"), lambda: log.append("undo a"))
            steps.step("b", lambda: log.append("do b"))

    with pytest.raises(LoadError, match="b: not b"):
        change()
    assert log == ["do a", "undo a"]


def test_undoing_that_fails_too_is_told_and_does_not_stop_the_rest() -> None:
    log: list[str] = []

    def fail() -> None:
        raise OSError(5, "Input/output error")

    def change() -> None:
        with Transaction() as steps:
            steps.step("a", lambda: None, lambda: log.append("undo a"))
            steps.step("b", lambda: None, fail)
            raise ValueError("first")

    with pytest.raises(L7fpError, match=r"undoing failed too: b: .*l7fp unload"):
        change()
    assert log == ["undo a"]
