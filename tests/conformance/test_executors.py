"""Every executor against the corpus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from l7fp.errors import UnavailableError
from tests.conformance.corpus import Case, Diverted, Executor, Skipped, cases
from tests.conformance.host import HostExecutor
from tests.conformance.judge import EXECUTORS, Verdict, differences, inexpressible, judge

CASES = cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest.fixture(scope="module")
def slow() -> Iterator[Executor]:
    with EXECUTORS["slow"](CASES) as executor:
        yield executor


@pytest.fixture(scope="module")
def envoy() -> Iterator[Executor]:
    try:
        made = EXECUTORS["envoy"](CASES)
    except UnavailableError as error:
        pytest.skip(f"{error}: {error.hint}")
    with made as executor:
        yield executor


@each_case
def test_host_compiled_code(case: Case) -> None:
    found = judge(case, HostExecutor(), {})
    assert found.verdict in (Verdict.AGREES, Verdict.DIVERTS), found.text


@each_case
def test_slow_path(case: Case, slow: Executor) -> None:
    found = judge(case, slow, {})
    assert found.verdict is Verdict.AGREES, found.text


@each_case
def test_envoy(case: Case, envoy: Executor) -> None:
    found = judge(case, envoy, differences())
    assert found.verdict is not Verdict.WRONG, found.text
    assert (found.verdict is Verdict.SKIPS) == (case.id in inexpressible())
    if found.verdict is Verdict.SKIPS:
        assert found.text == inexpressible()[case.id]


def test_rows_about_envoy_name_cases_of_the_corpus() -> None:
    known = {case.id for case in CASES}
    assert differences().keys() <= known
    assert inexpressible().keys() <= known
    assert not differences().keys() & inexpressible().keys()


def test_most_of_the_corpus_is_served_without_the_slow_path() -> None:
    outcomes = [HostExecutor().run(case) for case in CASES]
    served = [o for o in outcomes if not isinstance(o, Diverted | Skipped)]
    assert len(served) >= 240
