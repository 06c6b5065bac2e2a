"""What machine a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from bench.envoy import find_envoy
from bench.wrk import find_wrk
from l7fp import __version__
from l7fp.errors import UnavailableError


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "unknown")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _envoy_version(line: str) -> str:
    """`envoy version: HASH/1.40.0/Clean/RELEASE/BoringSSL` without all but the number."""
    parts = line.rpartition("version: ")[2].split("/")
    return parts[1] if len(parts) > 1 else line


def describe() -> dict[str, str | int]:
    """Processor, kernel and versions."""
    try:
        envoy = _first_line([str(find_envoy()), "--version"])
    except UnavailableError:
        envoy = "not installed"
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "l7fp": __version__,
        "envoy": _envoy_version(envoy),
        "wrk": _first_line([find_wrk(), "-v"]).partition(" Copyright")[0],
    }
