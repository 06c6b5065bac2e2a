"""The commands of README.md print what it says they print."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.console import Block, blocks, matches

ROOT = Path(__file__).resolve().parents[2]
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
    # commands write into the working directory: give them a copy of what they read, and the program by its name
    shutil.copytree(ROOT / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/l7fp"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m l7fp "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    for command, expected in block.steps:
        where = ROOT if command in INSTEAD else tmp_path
        done = subprocess.run(
            ["bash", "-c", INSTEAD.get(command, command)],
            cwd=where,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        assert matches(expected, done.stdout, numbers_vary="numbers vary" in block.how), done.stdout


def test_every_figure_has_the_command_that_made_it() -> None:
    """A table of measurements stands below the command that prints it."""
    text = (ROOT / "README.md").read_text()
    for row in text.split("\n| ")[1:]:
        if " µs" in row or " req/s" in row:
            assert "l7fp bench http1" in text[: text.index(row)]
