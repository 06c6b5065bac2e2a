"""`l7fp run --no-kernel`: when it can't begin, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

POLICY = Path(__file__).parent / "policies/shop.yaml"


def _run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "l7fp", "run", "--no-kernel", *arguments, str(POLICY)]


def test_port_in_use_is_one_line_and_a_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(_run("--listen", f"127.0.0.1:{port}=80"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == (
        f"l7fp: cannot listen on 127.0.0.1:{port}: Address already in use\n  hint: choose another with --listen\n"
    )


def test_address_of_another_machine_is_refused_likewise() -> None:
    done = subprocess.run(_run("--listen", "192.0.2.1:8080=80"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 3
    assert done.stderr.startswith("l7fp: cannot listen on 192.0.2.1:8080: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_it_in_order(number: signal.Signals) -> None:
    process = subprocess.Popen(
        _run("--listen", "[::1]:0=80"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready: slow path alone on ::1:")
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
