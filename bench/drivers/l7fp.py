"""l7fp itself: in the kernel, or its slow path alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import backend, rules
from bench.processes import cgroup_root, free_port, spawn, stop, wait_for_port
from bench.reaper import Reaper
from l7fp.errors import UnavailableError
from slowpath.agent.admin import ask


class L7fpKernel:
    """`l7fp run` on a cgroup of its own; client and server are below it and the client connects to the service."""

    name = "l7fp"
    title = "l7fp, kernel path"

    def __init__(self) -> None:
        self._instance = f"l7fp-bench-{os.getpid()}"
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._cgroup: Path | None = None
        self._reaper: Reaper | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://{rules.SERVICE_ADDRESS}:{rules.PORT}"

    @property
    def client_cgroup(self) -> Path | None:
        return self._cgroup / "client" if self._cgroup else None

    def start(self) -> None:
        root = cgroup_root()
        if os.geteuid() != 0 or root is None:
            raise UnavailableError("the kernel path needs root and a cgroup v2 mount", hint="sudo l7fp bench …")
        self._folder = tempfile.TemporaryDirectory(prefix="l7fp-bench-")
        self._cgroup = root / self._instance
        self._reaper = Reaper(self._cgroup, self._instance)
        for part in ("client", "server", "agent"):
            (self._cgroup / part).mkdir(parents=True, exist_ok=True)
        port = free_port()
        below = self._cgroup.relative_to(root)
        policy = Path(self._folder.name) / "policy.yaml"
        policy.write_text(rules.policy("127.0.0.1", port, f"{below}/client", f"{below}/server"))
        self._processes.append(backend.start("127.0.0.1", port, "web", self._cgroup / "server"))
        command = ["run", "--instance", self._instance, "--cgroup", str(self._cgroup), str(policy)]
        self._processes.append(serve(command, Path(self._folder.name), self._cgroup / "agent"))

    def pids(self) -> list[int]:
        return [p.pid for p in self._processes]

    def handled(self) -> tuple[int, int] | None:
        status = ask(self._instance, {"op": "status"})
        return sum(r["forwarded"] + r["replied"] for r in status["rules"]), status["proxy"]["requests"]["total"]

    def stop(self) -> None:
        stop(reversed(self._processes), timeout=10)
        self._processes.clear()
        if self._reaper:
            self._reaper.close()
            self._reaper = self._cgroup = None
        if self._folder:
            self._folder.cleanup()
            self._folder = None


class L7fpSlow:
    """The embedded proxy without a kernel: an ordinary listener that enforces the whole policy."""

    name = "l7fp-slow"
    title = "l7fp, slow path alone (one Python process)"
    client_cgroup: Path | None = None

    def __init__(self) -> None:
        self._listen = free_port()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listen}"

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="l7fp-bench-")
        port = free_port()
        policy = Path(self._folder.name) / "policy.yaml"
        policy.write_text(rules.policy("127.0.0.1", port, "bench/client", "bench/server"))
        self._processes.append(backend.start("127.0.0.1", port, "web"))
        command = ["run", "--no-kernel", "--listen", f"127.0.0.1:{self._listen}={rules.PORT}", str(policy)]
        self._processes.append(serve(command, Path(self._folder.name)))
        wait_for_port("127.0.0.1", self._listen, self._processes[-1])

    def pids(self) -> list[int]:
        return [p.pid for p in self._processes]

    def handled(self) -> tuple[int, int] | None:
        return None

    def stop(self) -> None:
        stop(reversed(self._processes))
        self._processes.clear()
        if self._folder:
            self._folder.cleanup()
            self._folder = None


def serve(
    arguments: list[str], folder: Path, cgroup: Path | None = None, *, timeout: float = 30.0
) -> subprocess.Popen[bytes]:
    """Run `l7fp ARGUMENTS` and wait until it says that it is ready. Its output is in `folder/l7fp.log`."""
    log_path = folder / "l7fp.log"
    with open(log_path, "wb") as log:
        process = spawn([sys.executable, "-m", "l7fp", *arguments], cgroup=cgroup, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        text = log_path.read_text(errors="replace")
        if any(line.startswith("ready") for line in text.splitlines()):
            return process
        if process.poll() is not None:
            said = text.strip().removeprefix("l7fp: ") or f"status {process.returncode}"
            raise UnavailableError(f"l7fp did not start: {said}")
        time.sleep(0.05)
    stop([process])
    raise UnavailableError(f"l7fp was not ready after {timeout:g} s: {log_path.read_text(errors='replace').strip()}")
