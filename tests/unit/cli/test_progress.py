"""Progress shows itself late, on a terminal only, and goes away again."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import sys, time
from l7fp.cli import progress
progress.DELAY_S = float(sys.argv[1])
with progress.progress("compiling") as say:
    time.sleep(float(sys.argv[2]))
    say("loading")
    time.sleep(float(sys.argv[2]))
"""


def _shown(delay: float, pause: float, *, terminal: bool = True) -> str:
    """What appears on standard error."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CODE, str(delay), str(pause)], stderr=theirs, env=env, check=True, timeout=60)
    os.close(theirs)
    data = b""
    try:
        while more := os.read(ours, 65536):
            data += more
    except OSError:  # a terminal whose other side is closed
        pass
    os.close(ours)
    return data.decode()


def test_what_is_quick_shows_nothing() -> None:
    assert _shown(1.0, 0.0) == ""


def test_what_takes_a_while_says_what_is_under_way_and_wipes_it_in_the_end() -> None:
    shown = _shown(0.05, 1.5)
    assert shown.index("compiling") < shown.index("loading")
    assert shown.endswith("\x1b[2K")


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_where_there_is_no_terminal_nothing_is_shown(delay: float) -> None:
    assert _shown(delay, 0.2, terminal=False) == ""
