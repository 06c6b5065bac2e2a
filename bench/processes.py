"""Child processes of a benchmark or a demo: placed in a cgroup, ended with their parent, their CPU time read."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from l7fp.errors import UnavailableError

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def cgroup_root() -> Path | None:
    """The mount point of cgroup v2, None where there is none."""
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return Path(where)
    return None


def _enter(cgroup: Path | None, parent: int) -> None:
    """In the child, before exec: die with the parent, and join `cgroup`."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text("0")


def spawn(
    command: Sequence[str],
    *,
    cgroup: Path | None = None,
    stdout: IO[bytes] | int | None = subprocess.DEVNULL,
    stderr: IO[bytes] | int | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in `cgroup`, in its own session; the kernel kills it when this process ends, however it ends."""
    parent = os.getpid()
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=None if env is None else {**os.environ, **env},
        start_new_session=True,
        preexec_fn=lambda: _enter(cgroup, parent),
    )


def stop(processes: Iterable[subprocess.Popen[bytes]], *, timeout: float = 5.0) -> None:
    """SIGTERM, then SIGKILL for those that are still there after `timeout` seconds."""
    running = [p for p in processes if p.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + timeout
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def remove_cgroup(path: Path) -> None:
    """Remove `path` and what is below it; whatever still runs there is killed."""
    if not path.is_dir():
        return
    for child in [p for p in path.iterdir() if p.is_dir()]:
        remove_cgroup(child)
    for _ in range(100):
        try:
            path.rmdir()
            return
        except OSError:
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.02)
    path.rmdir()


def wait_for_port(address: str, port: int, process: subprocess.Popen[bytes], *, timeout: float = 10.0) -> None:
    """Return when something accepts at (address, port); raise when `process` ends first or `timeout` s have gone."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnavailableError(f"a server for {address}:{port} ended with status {process.returncode}")
        try:
            socket.create_connection((address, port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise UnavailableError(f"nothing answers at {address}:{port} after {timeout:g} s")


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as s:
        s.bind((address, 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds used so far: by the watched processes, and by the whole machine (all but idle and iowait)."""

    processes: float
    machine: float

    def __sub__(self, other: CpuTimes) -> CpuTimes:
        return CpuTimes(self.processes - other.processes, self.machine - other.machine)


def cpu_times(pids: Iterable[int]) -> CpuTimes:
    """Read /proc; a process that has ended counts as zero."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(n) for n in stat.readline().split()[1:])
    return CpuTimes(ticks / _TICKS, (user + nice + system + irq + softirq) / _TICKS)
