"""The interpreter, and the passes before it, against the corpus."""

from __future__ import annotations

import pytest

from l7fp.ir import passes
from l7fp.ir.parser import parse_policy
from l7fp.ir.passes.classify import Kernel, classify
from l7fp.ir.printer import print_policy
from l7fp.ir.verify import verify
from tests.conformance.corpus import Case, cases, check
from tests.conformance.interpreter import InterpreterExecutor, decide, outcome

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_interpreter(case: Case) -> None:
    check(case, InterpreterExecutor().run(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_interpreter_after_all_passes(case: Case) -> None:
    check(case, outcome(decide(passes.run(case.policy), case)))


@pytest.mark.parametrize("case", [c for c in CASES if c.expect.kernel is not None], ids=lambda case: case.id)
def test_placement(case: Case) -> None:
    decision = decide(case.policy, case)
    placed = classify(case.policy)
    guards = next(
        (w.policies for w in case.policy.workloads if decision.endpoint and w.name == decision.endpoint.workload), ()
    )
    parts = [placed.authz[name] for name in guards]
    if decision.rule is not None:
        parts.append(placed.rules[decision.rule.name])
    assert all(part == Kernel() for part in parts) == case.expect.kernel, parts


def test_policies_of_the_corpus_are_sound_and_survive_printing() -> None:
    for policy in {case.policy for case in CASES}:
        assert verify(policy) == []
        assert parse_policy(print_policy(policy)) == policy


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 120
