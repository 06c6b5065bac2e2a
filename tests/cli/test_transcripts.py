"""What a user types, and exactly what comes back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.docs.console import Block, blocks, matches, run

HERE = Path(__file__).parent


def _params() -> list[object]:
    out: list[object] = []
    for path in sorted((HERE / "transcripts").glob("*.md")):
        for block in blocks(path.read_text()):
            marks = [pytest.mark.kernel] if "kernel" in block.how else []
            out.append(pytest.param(block, id=f"{path.name}:{block.line}", marks=marks))
    return out


@pytest.mark.parametrize("block", _params())
def test_transcript(block: Block, tmp_path: Path) -> None:
    if "kernel" in block.how and os.geteuid() != 0:
        pytest.skip("needs root")
    work = tmp_path / "work"
    shutil.copytree(HERE / "policies", work)
    for command, expected in block.steps:
        said = run(command, work, tmp_path / "bin", timeout=120)
        assert matches(expected, said), f"$ {command}\n{said}"
