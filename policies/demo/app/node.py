"""The demo's own corner of this machine: a cgroup, l7fp serving it, and its counters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.drivers.l7fp import serve
from bench.processes import cgroup_root, stop
from bench.reaper import Reaper
from l7fp.errors import UnavailableError
from policies.demo.app.topology import POLICIES
from slowpath.agent.admin import ask

INSTANCE = "l7fp-demo"


@dataclass(frozen=True, slots=True)
class Count:
    """What became of a rule's requests: done by the kernel, diverted to the slow path."""

    kernel: int = 0
    slow: int = 0

    def __sub__(self, other: Count) -> Count:
        return Count(self.kernel - other.kernel, self.slow - other.slow)

    def __bool__(self) -> bool:
        return bool(self.kernel or self.slow)


@dataclass(frozen=True, slots=True)
class State:
    """Requests by rule, and diverted requests by reason."""

    rules: Mapping[str, Count]
    reasons: Mapping[str, int]

    def since(self, before: State) -> State:
        """What has changed."""
        rules = {name: count - before.rules.get(name, Count()) for name, count in self.rules.items()}
        reasons = {name: n - before.reasons.get(name, 0) for name, n in self.reasons.items()}
        return State({n: c for n, c in rules.items() if c}, {n: c for n, c in reasons.items() if c})


class Node:
    """Sets up on `start`; `close` removes everything, and so does the reaper if this process is killed."""

    def __init__(self) -> None:
        root = cgroup_root()
        assert root is not None
        self.root = root
        self.cgroup = root / INSTANCE
        if self.cgroup.is_dir() and any(p.read_text().strip() for p in self.cgroup.glob("**/cgroup.procs")):
            raise UnavailableError(f"a demo runs already in {self.cgroup}", hint="end it first")
        self._reaper: Reaper | None = None
        self._l7fp: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="l7fp-demo-")

    def prepare(self) -> None:
        """The cgroups, and who watches over them."""
        self._reaper = Reaper(self.cgroup, INSTANCE)
        (self.cgroup / "agent").mkdir(parents=True, exist_ok=True)

    def start(self) -> list[str]:
        """Compile, load and serve the demo's policies; the command that does it."""
        arguments = ["run", "--instance", INSTANCE, "--cgroup", str(self.cgroup), str(POLICIES)]
        self._l7fp = serve(arguments, Path(self._folder.name), self.cgroup / "agent")
        return ["l7fp", *arguments[:-1], os.path.relpath(POLICIES)]

    def state(self) -> State:
        """What has happened since the start."""
        status = ask(INSTANCE, {"op": "status"})
        rules = {r["name"]: Count(r["forwarded"] + r["replied"], r["diverted"]) for r in status["rules"]}
        return State(rules, status["diverted"])

    def close(self) -> None:
        """Idempotent."""
        if self._l7fp is not None:
            stop([self._l7fp], timeout=10)
            self._l7fp = None
        if self._reaper is not None:
            self._reaper.close()
            self._reaper = None
        self._folder.cleanup()


def l7fp(*arguments: str) -> str:
    """Output of another verb."""
    done = subprocess.run([sys.executable, "-m", "l7fp", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UnavailableError(done.stderr.strip().removeprefix("l7fp: "))
    return done.stdout.strip()
