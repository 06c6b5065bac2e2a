"""Cases held against executors: who agrees, who diverts, who differs with leave, who is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.conformance.corpus import HERE, Case, Diverted, Executor, Expectation, Skipped, check, expectation
from tests.conformance.host import HostExecutor
from tests.conformance.interpreter import InterpreterExecutor


class Verdict(Enum):
    """On one case and one executor."""

    AGREES = "ok"
    DIVERTS = "diverted"
    DIFFERS = "differs"
    SKIPS = "skipped"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`text` says why, where the executor doesn't simply agree."""

    verdict: Verdict
    text: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of `envoy.toml`: what Envoy does, and why others don't."""

    reason: str
    expect: Expectation


def differences() -> dict[str, Difference]:
    """By case."""
    return {
        case: Difference(row["reason"], expectation(row["envoy"]))
        for row in _table()["difference"]
        for case in row["cases"]
    }


def inexpressible() -> dict[str, str]:
    """Case -> why Envoy has no words for it."""
    return {case: row["reason"] for row in _table()["inexpressible"] for case in row["cases"]}


def _table() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads((HERE / "envoy.toml").read_text("utf-8"))


def judge(case: Case, executor: Executor, allowed: Mapping[str, Difference]) -> Judgement:
    """Play the case. `allowed` are differences of this executor; a case of them must differ as it says there."""
    difference = allowed.get(case.id)
    outcome = executor.run(case)
    try:
        check(case, outcome, difference.expect if difference else None)
        if difference:
            try:
                check(case, outcome)
            except AssertionError:
                return Judgement(Verdict.DIFFERS, difference.reason)
            return Judgement(Verdict.WRONG, "it agrees, though a row says that it differs")
    except AssertionError as error:
        return Judgement(Verdict.WRONG, str(error).partition("\nassert ")[0])
    match outcome:
        case Diverted(reason):
            return Judgement(Verdict.DIVERTS, reason)
        case Skipped(reason):
            return Judgement(Verdict.SKIPS, reason)
        case _:
            return Judgement(Verdict.AGREES)


def _kernel(cases: Sequence[Case]) -> Executor:
    from tests.conformance.kernel import KernelExecutor

    return KernelExecutor()


def _slow(cases: Sequence[Case]) -> Executor:
    from tests.conformance.slow import SlowExecutor

    return SlowExecutor(cases)


def _envoy(cases: Sequence[Case]) -> Executor:
    from tests.conformance.envoy import EnvoyExecutor

    return EnvoyExecutor(cases)


EXECUTORS: dict[str, Callable[[Sequence[Case]], Executor]] = {
    "interp": lambda cases: InterpreterExecutor(),
    "host": lambda cases: HostExecutor(),
    "kernel": _kernel,
    "slow": _slow,
    "envoy": _envoy,
}
"""By name; each is made for the cases that it will be asked."""


def allowed(name: str) -> Mapping[str, Difference]:
    """Differences that the executor may have."""
    return differences() if name == "envoy" else {}
