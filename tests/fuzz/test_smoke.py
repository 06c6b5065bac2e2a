"""The fuzzers run, and find nothing in a moment."""

from __future__ import annotations

import pytest

from tests.fuzz import http1


def test_a_moment_of_ugly_http1_finds_nothing() -> None:
    seen = http1.run(seconds=1.5, seed=1)
    assert (
        min(seen[f"{kind} {outcome}"] for kind in ("request", "response") for outcome in ("accepted", "refused")) > 50
    )


@pytest.mark.slow
def test_a_minute_of_ugly_http1_finds_nothing() -> None:
    assert http1.run(seconds=60, seed=2)
