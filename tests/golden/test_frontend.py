"""Examples and broken policies: AST, IR and findings, word by word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from l7fp.frontend import Loaded, load
from l7fp.frontend.ast import dump
from l7fp.ir.printer import print_policy

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "policies" / "examples").glob("*.yaml"))
BROKEN = sorted(p for p in (ROOT / "policies" / "broken").iterdir() if p.suffix in (".yaml", ".json"))
GOLDEN = ROOT / "tests" / "golden" / "frontend"


def _load(path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.chdir(path.parent)  # places name the file alone, wherever the repository is
    return load([path.name])


def _findings(loaded: Loaded) -> str:
    lines: list[str] = []
    for found in loaded.diagnostics.sorted():
        lines.append(f"{found.span.line}:{found.span.column} {found.severity.value} {found.code} {found.message}")
        if found.hint:
            lines.append(f"    {found.hint}")
    return "\n".join(lines or ["no findings"]) + "\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_has_the_recorded_ast_ir_and_findings(
    path: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _load(path, monkeypatch)
    assert loaded.policy is not None
    golden(GOLDEN / f"{path.stem}.ast", dump(loaded.ast))
    golden(GOLDEN / f"{path.stem}.ir", print_policy(loaded.policy))
    golden(GOLDEN / f"{path.stem}.findings", _findings(loaded))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_policy_has_the_expected_findings(
    path: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _load(path, monkeypatch)
    assert loaded.policy is None
    assert loaded.diagnostics.failed
    golden(path.with_suffix(".expected"), _findings(loaded))
