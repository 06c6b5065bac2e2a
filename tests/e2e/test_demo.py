"""`make demo`: it works, twice, and nothing of it stays, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import cgroup_root
from policies.demo.app.node import INSTANCE
from policies.demo.app.topology import REPOSITORY

pytestmark = pytest.mark.kernel

COMMAND = [sys.executable, "-m", "policies.demo.app", "--no-bench"]


def _left_behind() -> list[str]:
    root = cgroup_root()
    assert root is not None
    places = [root / INSTANCE, Path("/sys/fs/bpf") / INSTANCE, Path(f"/run/l7fp/{INSTANCE}.sock")]
    found = [str(path) for path in places if path.exists()]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "policies.demo.app" in words or f"--instance {INSTANCE}" in words:
            found.append(words)
    return found


def _clean_within(seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := _left_behind()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.fixture(autouse=True)
def alone() -> None:
    if os.geteuid() != 0 or cgroup_root() is None:
        pytest.skip("needs root and cgroup v2")
    assert _clean_within(20) == [], "another demo runs on this machine"


@pytest.mark.parametrize("run", ["first", "second"])
def test_every_request_goes_where_it_should(run: str) -> None:
    done = subprocess.run(COMMAND, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    said = done.stdout
    page = said.partition("A page made of four services")[2].partition("\n\n")[0]
    assert "200 from productpage" in page
    assert "slow path" not in page
    slow = said.partition("A regular expression")[2].partition("\n\n")[0]
    assert re.search(r"slow path × 1 +bookshop/productpage/http\[2\]", slow)
    killed = said.partition("was killed")[2].partition("\n\n")[0]
    assert "200 from details-b × 20" in killed
    assert "because of: rule_slow" in slow
    assert _clean_within(5) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_when_it_is_ended_in_between(number: signal.Signals) -> None:
    process = subprocess.Popen(
        COMMAND, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"Rewrite" in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert errors == b""
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert _clean_within(30) == []
