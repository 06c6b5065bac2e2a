"""A machine that can't: one line, the mend, exit code 3, and nothing left behind."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from l7fp.cli import app
from l7fp.codegen import cc
from l7fp.loader import features, mounts
from l7fp.loader import sys as kernel

POLICY = Path(__file__).parent / "policies/shop.yaml"
INSTANCE = "l7fp-cli-test"


def _unprivileged(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with no capability at all, whoever runs the tests."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "l7fp", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", [["run", str(POLICY)], ["unload"], ["status"]])
def test_without_root(verb: list[str]) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    done = _unprivileged(*verb, "--instance", INSTANCE)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("l7fp: not root: ")
    assert done.stderr.endswith("\n  hint: run it as root (sudo)\n")
    assert done.stderr.count("\n") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="without root that is what is said first")
def test_kernel_without_bpf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(kernel, "map_create", refuse)
    assert app.status(["run", str(POLICY), "--instance", INSTANCE]) == 3
    assert capsys.readouterr().err == (
        "l7fp: the kernel has no BPF\n  hint: use a kernel built with CONFIG_BPF_SYSCALL=y\n"
    )
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="without root that is what is said first")
def test_machine_without_cgroup2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mounts, "cgroup2", lambda: None)
    assert app.status(["run", str(POLICY), "--instance", INSTANCE]) == 3
    assert capsys.readouterr().err.startswith("l7fp: cgroup v2 is not mounted\n  hint: mount it: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="without root that is what is said first")
def test_kernel_that_is_too_old(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(features.platform, "release", lambda: "5.15.0-91-generic")
    assert app.status(["run", str(POLICY), "--instance", INSTANCE]) == 3
    assert capsys.readouterr().err == (
        "l7fp: Linux 5.15.0-91-generic is too old\n  hint: run a kernel of 6.1 or later\n"
    )


def test_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cc.shutil, "which", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert app.status(["compile", str(POLICY)]) == 3
    said = capsys.readouterr()
    assert said.err == (
        "l7fp: no compiler for BPF: zig: the ziglang wheel is not installed\n"
        "  hint: install the extra l7fp[cc] (no root needed), or clang >= 16\n"
    )
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "part"), [("ast", b"Service"), ("ir", b"cluster"), ("plan", b"Plan("), ("c", b'SEC("sk_msg')]
)
def test_stages_before_the_object_need_no_compiler(
    stage: str, part: bytes, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(cc, "find_compiler", None)
    assert app.status(["compile", str(POLICY), "--emit", stage]) == 0
    app.sys.stdout.flush()
    assert part in capfdbinary.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_unload_where_nothing_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["unload", "--instance", INSTANCE]) == 0
    assert capsys.readouterr().out == "nothing was loaded\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_status_where_nothing_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["status", "--instance", INSTANCE]) == 1
    assert capsys.readouterr().out == f"{INSTANCE}: nothing is loaded\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_cgroup_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["run", str(POLICY), "--instance", INSTANCE, "--cgroup", "/tmp"]) == 3
    assert capsys.readouterr().err.startswith("l7fp: /tmp is not a directory of cgroup v2\n  hint: choose one below ")
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()
