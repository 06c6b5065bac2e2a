"""Every code that is emitted is explained, every explained code is emitted, and both agree on severity."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from l7fp import catalogue
from l7fp.diagnostics import Severity
from l7fp.frontend import load

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"L7FP[0-9]{3}")


def _emitted() -> set[str]:
    found: set[str] = set()
    for path in [*(ROOT / "l7fp").rglob("*.py"), *(ROOT / "slowpath").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found


def test_codes_in_the_source_are_those_of_the_catalogue() -> None:
    assert _emitted() == set(catalogue.catalogue())


@pytest.mark.parametrize("entry", catalogue.catalogue().values(), ids=lambda entry: entry.code)
def test_entry_says_what_it_means_and_what_to_do(entry: catalogue.Entry) -> None:
    assert entry.title
    assert entry.severities
    assert entry.explanation.endswith(".")
    assert entry.mend.endswith(".")


def test_codes_are_in_order() -> None:
    assert list(catalogue.catalogue()) == sorted(catalogue.catalogue())


def test_unknown_code_has_no_entry() -> None:
    assert catalogue.find("L7FP999") is None


def test_severities_are_as_reported() -> None:
    for finding in load([str(ROOT / "policies" / "broken"), str(ROOT / "policies" / "examples")]).diagnostics:
        entry = catalogue.find(finding.code)
        assert entry is not None
        assert finding.severity in entry.severities, finding
    assert Severity.ERROR in catalogue.catalogue()["L7FP103"].severities
