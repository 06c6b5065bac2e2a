"""The load generator: wrk, its output as values."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import CpuTimes, cpu_times, spawn
from l7fp.errors import L7fpError, UnavailableError

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: `paths` in turn over `connections` kept-alive connections for `seconds`.

    `expect_errors` is set where every right answer is a 4xx, which wrk counts as errors.
    """

    paths: tuple[str, ...]
    connections: int
    seconds: int
    method: str = "GET"
    body_bytes: int = 0
    expect_errors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run. Latencies in µs; CPU seconds of the watched processes (wrk too) and of the
    whole machine. `offload`: share that the kernel dealt with, where there is a kernel path.
    `errors`: how many of each kind."""

    requests: int
    seconds: float
    bytes: int
    p50_us: float
    p99_us: float
    mean_us: float
    errors: dict[str, int]
    cpu: CpuTimes
    offload: float | None = None

    @property
    def bad(self) -> int:
        """Answers that were not the right one, and failures of sockets."""
        return sum(self.errors.values())

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """CPU µs per request of all processes that take part."""
        return self.cpu.processes * 1e6 / self.requests if self.requests else 0.0

    @property
    def machine_us(self) -> float:
        """CPU µs per request of the whole machine: also what no process is charged with."""
        return self.cpu.machine * 1e6 / self.requests if self.requests else 0.0


def find_wrk() -> str:
    """Path of wrk."""
    if path := shutil.which("wrk"):
        return path
    raise UnavailableError("wrk is not installed", hint="apt install wrk")


def run(load: Load, *, url: str, host: str, pids: Callable[[], Sequence[int]], cgroup: Path | None = None) -> Sample:
    """One run of wrk against `url` (no path) with this Host; `pids` names the other processes to charge."""
    command = [find_wrk(), "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", "10s"]
    command += ["-H", f"Host: {host}", "-s", str(_SCRIPT), url, "--", load.method, str(load.body_bytes), *load.paths]
    before = cpu_times(pids())
    children = _children_cpu()
    process = spawn(command, cgroup=cgroup, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=load.seconds + 60)
    used = cpu_times(pids()) - before
    used = CpuTimes(used.processes + _children_cpu() - children, used.machine)
    return _parse(output.decode(errors="replace"), load, used)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parse(output: str, load: Load, used: CpuTimes) -> Sample:
    last = output.strip().rpartition("\n")[2]
    try:
        numbers = json.loads(last)
    except ValueError:
        raise L7fpError(f"wrk failed: {output.strip() or 'no output'}") from None
    errors = {kind: numbers[kind] for kind in ("connect", "read", "write", "timeout")}
    wrong = numbers["requests"] - numbers["status"] if load.expect_errors else numbers["status"]
    errors["wrong status"] = wrong
    return Sample(
        requests=numbers["requests"],
        seconds=numbers["duration_us"] / 1e6,
        bytes=numbers["bytes"],
        p50_us=numbers["p50"],
        p99_us=numbers["p99"],
        mean_us=numbers["mean"],
        errors={kind: n for kind, n in errors.items() if n},
        cpu=used,
    )
