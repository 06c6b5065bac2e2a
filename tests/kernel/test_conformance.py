"""The kernel against the corpus, by test runs: what it serves is right, and it serves what it should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.corpus import Case, Executor, cases
from tests.conformance.host import HostExecutor
from tests.conformance.judge import EXECUTORS, Verdict, judge

CASES = cases()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Executor]:
    with EXECUTORS["kernel"](CASES) as executor:
        yield executor


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_kernel(case: Case, kernel: Executor) -> None:
    found = judge(case, kernel, {})
    assert found.verdict in (Verdict.AGREES, Verdict.DIVERTS), found.text
    assert found == judge(case, HostExecutor(), {})
