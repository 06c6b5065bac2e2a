"""The commands of README.md print what it says they print."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.console import ROOT, Block, blocks, matches, run

BLOCKS = blocks((ROOT / "README.md").read_text())
# what `make` would do before the command itself is installation
INSTEAD = {"make demo": f"{sys.executable} -m policies.demo.app --no-bench"}


def _param(block: Block) -> object:
    marks = [pytest.mark.kernel] if "kernel" in block.how else []
    return pytest.param(block, id=f"line {block.line}: {block.steps[0][0]}", marks=marks)


@pytest.mark.parametrize("block", [_param(b) for b in BLOCKS])
def test_block(block: Block, tmp_path: Path) -> None:
    if "kernel" in block.how and os.geteuid() != 0:
        pytest.skip("needs root")
    # commands write into the working directory: give them a copy of what they read
    shutil.copytree(ROOT / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    for command, expected in block.steps:
        where = ROOT if command in INSTEAD else tmp_path
        said = run(INSTEAD.get(command, command), where, tmp_path / "bin")
        assert matches(expected, said, numbers_vary="numbers vary" in block.how), said


def test_every_figure_has_the_command_that_made_it() -> None:
    """A table of measurements stands below the command that prints it."""
    text = (ROOT / "README.md").read_text()
    for row in text.split("\n| ")[1:]:
        if " µs" in row or " req/s" in row:
            assert "l7fp bench http1" in text[: text.index(row)]
