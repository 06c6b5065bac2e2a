"""The benchmark's server, `backend.c`, compiled where the benchmark runs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.processes import spawn, wait_for_port
from l7fp.errors import CompileError

SOURCE = Path(__file__).with_name("backend.c")


def _compiler() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise CompileError("no C compiler for the benchmark's server", hint="pip install 'l7fp[cc]' or apt install gcc")


def build() -> Path:
    """Compile once for each text of the source; return the program."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "l7fp"
    program = cache / f"backend-{digest}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / "backend"
        done = subprocess.run([*_compiler(), "-O2", "-o", made, SOURCE], capture_output=True, text=True)
        if done.returncode != 0:
            raise CompileError(f"the C compiler refused {SOURCE}: {done.stderr.strip().splitlines()[-1]}")
        made.rename(program)
    return program


def start(address: str, port: int, name: str, cgroup: Path | None = None) -> subprocess.Popen[bytes]:
    """Run a server and wait until it accepts."""
    process = spawn([str(build()), address, str(port), name], cgroup=cgroup)
    wait_for_port(address, port, process)
    return process
