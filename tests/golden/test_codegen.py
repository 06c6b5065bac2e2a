"""What code generation makes of policies: the plan as text, and the C that depends on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from l7fp.codegen import plan_json, render
from l7fp.codegen.plan import build
from l7fp.ir import passes
from l7fp.ir.passes.classify import classify
from tests.unit.codegen.policies import sample

GOLDEN = Path(__file__).parent / "codegen"


def test_plan_and_c(golden: Callable[[Path, str], None]) -> None:
    policy = passes.run(sample())
    plan = build(policy, classify(policy))
    golden(GOLDEN / "sample.plan", plan_json.text(plan))
    golden(GOLDEN / "sample.tables.h", render.tables_header(plan))
