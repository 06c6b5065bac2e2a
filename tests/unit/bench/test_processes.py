"""Children end with their parent, and nothing of a cgroup stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import processes
from bench.processes import cgroup_root, cpu_times, remove_cgroup, spawn, stop, wait_for_port
from bench.reaper import Reaper
from l7fp.errors import UnavailableError


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _alive(pid)


def test_child_dies_with_a_parent_that_is_killed() -> None:
    code = (
        "from bench.processes import spawn; import time; print(spawn(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _gone_within(child, 5)


def test_stop_kills_what_does_not_listen_to_sigterm() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    deaf = spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    stop([deaf], timeout=0.1)
    deaf.stdout.close()
    assert deaf.returncode == -signal.SIGKILL


def test_waiting_for_a_server_that_ended_says_so() -> None:
    process = spawn(["false"])
    with pytest.raises(UnavailableError, match="ended with status 1"):
        wait_for_port("127.0.0.1", processes.free_port(), process)


def test_cpu_time_is_charged_to_the_process_that_used_it() -> None:
    before = cpu_times([os.getpid()])
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    used = cpu_times([os.getpid()]) - before
    assert 0.2 < used.processes < 0.6
    assert used.machine >= 0.2


@pytest.fixture
def cgroup() -> Path:
    root = cgroup_root()
    if root is None or os.geteuid() != 0:
        pytest.skip("needs root and cgroup v2")
    path = root / f"l7fp-test-{os.getpid()}"
    (path / "inner").mkdir(parents=True)
    return path


def test_remove_cgroup_ends_what_runs_in_it(cgroup: Path) -> None:
    process = spawn(["sleep", "60"], cgroup=cgroup / "inner")
    remove_cgroup(cgroup)
    assert process.wait(5) == -signal.SIGKILL
    assert not cgroup.exists()


def test_reaper_removes_the_cgroup_when_its_parent_is_killed(cgroup: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.reaper import Reaper\n"
        "r = Reaper(Path(sys.argv[1]), 'l7fp-test-none'); print(1, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(cgroup)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while cgroup.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not cgroup.exists()


def test_reaper_that_is_closed_has_done_its_work_when_close_returns(cgroup: Path) -> None:
    reaper = Reaper(cgroup, "l7fp-test-none")
    reaper.close()
    assert not cgroup.exists()
