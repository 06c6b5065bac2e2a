"""Every executor against the corpus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from l7fp.errors import UnavailableError
from tests.conformance.corpus import Case, Diverted, Executor, Skipped, cases
from tests.conformance.host import HostExecutor
from tests.conformance.judge import EXECUTORS, Verdict, differences, inexpressible, judge
from tests.conformance.variants import variants

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


VARIANTS = variants(CASES, 1500, seed=1)


@pytest.mark.parametrize("name", ["host", "slow", "envoy"])
def test_variants_of_the_corpus(name: str) -> None:
    try:
        made = EXECUTORS[name](VARIANTS)
    except UnavailableError as error:
        pytest.skip(f"{error}: {error.hint}")
    with made as executor:
        found = [(case, judge(case, executor, {})) for case in VARIANTS]
    wrong = [(c, j) for c, j in found if j.verdict is Verdict.WRONG and not (name == "envoy" and may_differ(c))]
    assert not wrong, "\n".join(f"{case.raw!r}: {judgement.text}" for case, judgement in wrong)
    agreeing = sum(j.verdict is Verdict.AGREES for _, j in found)
    assert agreeing >= (300 if name == "host" else 1400)


def may_differ(case: Case) -> bool:
    """Whether a row of `envoy.toml` has leave for what is in the request: for rows, no case is needed."""
    names = [name for name, _ in case.request.headers]
    path = case.request.path.lower()
    repeats = len(names) > len(set(names))
    odd_dots = ";" in path and ("%2e" in path or "\\" in path)
    return repeats or odd_dots or "%00" in path or case.request.source.ip.startswith("::ffff:")


def test_rows_about_envoy_name_cases_of_the_corpus() -> None:
    known = {case.id for case in CASES}
    assert differences().keys() <= known
    assert inexpressible().keys() <= known
    assert not differences().keys() & inexpressible().keys()


def test_most_of_the_corpus_is_served_without_the_slow_path() -> None:
    outcomes = [HostExecutor().run(case) for case in CASES]
    served = [o for o in outcomes if not isinstance(o, Diverted | Skipped)]
    assert len(served) >= 240
