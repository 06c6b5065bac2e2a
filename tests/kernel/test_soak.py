"""Mixed requests at 64 connections, every response checked, while servers are killed and policies change."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.world import PORT, VIP, World, deployment, free_port, policy

CONNECTIONS = 64


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with both ends."""
    compilers = [[path] for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if importlib.util.find_spec("ziglang"):
        compilers.append([sys.executable, "-m", "ziglang", "cc"])
    assert compilers, "no C compiler"
    made = tmp_path_factory.mktemp("soak") / "soak"
    subprocess.run([*compilers[0], "-O2", "-o", made, Path(__file__).with_name("soak.c")], check=True)
    return made


class Servers:
    """Soak servers of a world, which may be killed and started again."""

    def __init__(self, world: World, program: Path, count: int) -> None:
        self.world, self.program = world, program
        self.running: dict[str, Any] = {}
        for number in range(count):
            world.endpoints.append(("127.0.0.1", free_port()))
            self.start(f"s{number}")

    def start(self, name: str) -> None:
        port = self.world.endpoints[int(name[1:])][1]
        argv = [self.program, "server", name, str(port)]
        process = self.world.servers.popen(argv, stdout=subprocess.PIPE)
        self.world.processes.append(process)
        assert process.stdout.readline() == b"ready\n"
        self.running[name] = process

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).wait()


def ask(world: World, program: Path, requests: int, timeout: float) -> dict[str, int]:
    """Send that many requests; what came of them."""
    argv = [program, "client", VIP, str(PORT), str(CONNECTIONS), str(requests), "1"]
    client = world.clients.popen(argv, stdout=subprocess.PIPE)
    world.processes.append(client)
    out, _ = client.communicate(timeout=timeout)
    assert client.returncode == 0
    outcome: dict[str, int] = json.loads(out)
    return outcome


@pytest.mark.parametrize("requests", [30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_every_answer_is_right_and_none_is_missing(world: World, soak: Path, requests: int) -> None:
    Servers(world, soak, 2)
    world.start()
    outcome = ask(world, soak, requests, 60 + requests / 1000)
    assert (outcome["done"], outcome["wrong"]) == (requests, 0)
    assert (outcome["unavailable"], outcome["cut"]) == (0, 0)
    assert all(
        outcome[kind] for kind in ("fast", "denied", "rewritten", "edited", "slow", "posted", "uploaded", "large")
    )
    status = world.status()
    assert status["stats"]["forwarded"] > requests / 4
    assert status["stats"]["replied"] > requests / 20


@pytest.mark.parametrize("requests", [30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_servers_that_are_killed_cost_only_what_they_were_doing(world: World, soak: Path, requests: int) -> None:
    servers = Servers(world, soak, 2)
    world.start()
    done = threading.Event()
    kills = 0

    def kill_in_turn() -> None:
        nonlocal kills
        while not done.wait(0.5):
            name = f"s{kills % 2}"
            servers.kill(name)
            kills += 1
            time.sleep(0.1)
            servers.start(name)
            world.wait_usable()

    killer = threading.Thread(target=kill_in_turn)
    killer.start()
    try:
        outcome = ask(world, soak, requests, 60 + requests / 500)
    finally:
        done.set()
        killer.join()
    assert (outcome["done"], outcome["wrong"]) == (requests, 0)
    assert kills >= 2
    # a kill breaks off at most what each connection was doing, and what came before the agent had heard of it
    assert outcome["cut"] <= kills * CONNECTIONS
    assert outcome["unavailable"] <= kills * CONNECTIONS * 2


def test_policies_that_change_under_mixed_load_disturb_nothing(world: World, soak: Path) -> None:
    Servers(world, soak, 2)
    world.start()
    made = [world.write(deployment(policy(world.endpoints))), world.write(deployment(policy(world.endpoints[::-1])))]
    done = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not done.is_set():
            world.reload(made[swaps % 2])
            swaps += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        outcome = ask(world, soak, 30_000, 100)
    finally:
        done.set()
        swapper.join()
    assert (outcome["done"], outcome["wrong"], outcome["unavailable"], outcome["cut"]) == (30_000, 0, 0, 0)
    assert swaps >= 5
