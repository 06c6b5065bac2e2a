"""run, load, status and unload on a real kernel, in a cgroup of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import backend, rules
from bench.processes import cgroup_root, free_port, remove_cgroup, spawn, stop
from bench.reaper import unload

pytestmark = pytest.mark.kernel

INSTANCE = f"l7fp-verbs-{os.getpid()}"


def l7fp(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "l7fp", *arguments], capture_output=True, text=True, timeout=timeout)


class Corner:
    """A cgroup with a client and a server, and the policy of the benchmark between them."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.cgroup = root / INSTANCE
        self.place = ("--instance", INSTANCE, "--cgroup", str(self.cgroup))
        self.policy, self.bundle = folder / "policy.yaml", folder / "policy.l7fp"
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for part in ("client", "server"):
            (self.cgroup / part).mkdir(parents=True)
        port = free_port()
        self.server = backend.start("127.0.0.1", port, "web", self.cgroup / "server")
        self.policy.write_text(rules.policy("127.0.0.1", port, f"{INSTANCE}/client", f"{INSTANCE}/server"))
        assert l7fp("compile", str(self.policy), "-o", str(self.bundle)).returncode == 0

    def status_of(self, path: str) -> int:
        """HTTP status of a GET by the client; 0 when it could not connect."""
        url = f"http://{rules.SERVICE_ADDRESS}:{rules.PORT}{path}"
        command = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", "-H", f"Host: {rules.HOST}", url]
        process = spawn(command, cgroup=self.cgroup / "client", stdout=subprocess.PIPE)
        return int(process.communicate(timeout=20)[0])

    def close(self) -> None:
        unload(INSTANCE)
        stop([self.server] if self.server else [])
        remove_cgroup(self.cgroup)


@pytest.fixture
def corner(tmp_path: Path) -> Iterator[Corner]:
    root = cgroup_root()
    if os.geteuid() != 0 or root is None:
        pytest.skip("needs root and cgroup v2")
    made = Corner(root, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def _run(corner: Corner, log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        process = spawn(
            [sys.executable, "-m", "l7fp", "run", *corner.place, str(corner.policy)], stdout=file, stderr=file
        )
    deadline = time.monotonic() + 30
    while "ready" not in log.read_text() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    return process


def test_run_serves_until_interrupted_and_leaves_nothing(corner: Corner, tmp_path: Path) -> None:
    process = _run(corner, tmp_path / "log")
    assert (corner.status_of("/hello"), corner.status_of("/admin/x"), corner.status_of("/items/1")) == (200, 403, 200)
    told = json.loads(l7fp("status", "--json", "--instance", INSTANCE).stdout)
    used = {r["name"]: (r["forwarded"], r["replied"], r["diverted"]) for r in told["rules"]}
    assert used["bench/web/http[2]"] == (1, 1, 0)
    assert used["bench/web/http[1]"] == (0, 0, 1)
    assert told["diverted"] == {"rule_slow": 1}
    assert told["offload"] == pytest.approx(2 / 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert l7fp("status", "--instance", INSTANCE).returncode == 1
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()
    assert corner.status_of("/hello") == 0


def test_killed_run_is_closed_to_new_connections_and_unload_cleans_up(corner: Corner, tmp_path: Path) -> None:
    process = _run(corner, tmp_path / "log")
    assert corner.status_of("/hello") == 200
    process.kill()
    process.wait()
    assert corner.status_of("/hello") == 0
    said = l7fp("status", "--instance", INSTANCE)
    assert said.returncode == 1
    assert "but no process serves it" in said.stdout
    done = l7fp("unload", "--instance", INSTANCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed ")
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()
    assert not Path(f"/run/l7fp/{INSTANCE}.sock").exists()
    again = l7fp("unload", "--instance", INSTANCE)
    assert (again.returncode, again.stdout) == (0, "nothing was loaded\n")


def test_load_starts_a_process_and_then_replaces_the_policy_under_open_connections(corner: Corner) -> None:
    first = l7fp("load", str(corner.bundle), *corner.place, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["replaced"] is False
    assert corner.status_of("/admin/x") == 403
    corner.policy.write_text(corner.policy.read_text().replace("/admin*", "/hello*"))
    assert l7fp("compile", str(corner.policy), "-o", str(corner.bundle)).returncode == 0
    second = l7fp("load", str(corner.bundle), "--instance", INSTANCE)
    assert second.returncode == 0, second.stderr
    assert (corner.status_of("/admin/x"), corner.status_of("/hello")) == (200, 403)
    done = l7fp("unload", "--instance", INSTANCE)
    assert done.returncode == 0
    assert done.stdout.startswith("stopped process ")
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()


def test_damaged_bundle_leaves_the_policy_in_force(corner: Corner) -> None:
    assert l7fp("load", str(corner.bundle), *corner.place).returncode == 0
    data = bytearray(corner.bundle.read_bytes())
    data[len(data) // 2] ^= 1
    corner.bundle.write_bytes(data)
    refused = l7fp("load", str(corner.bundle), "--instance", INSTANCE)
    assert refused.returncode == 1
    assert "is damaged" in refused.stderr
    assert (corner.status_of("/hello"), corner.status_of("/admin/x")) == (200, 403)


def test_second_run_of_the_same_instance_is_refused_and_disturbs_nothing(corner: Corner, tmp_path: Path) -> None:
    process = _run(corner, tmp_path / "log")
    second = l7fp("run", *corner.place, str(corner.policy))
    assert second.returncode == 3
    assert second.stderr.count("\n") == 2
    assert corner.status_of("/hello") == 200
    process.terminate()
    assert process.wait(20) == 0
