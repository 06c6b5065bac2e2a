"""What kernel tests need of the machine, each test with its own: a cgroup, a folder in bpffs, network namespaces.

Everything is named after the test process, is removed after the test, and by a watching process should this one die.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from l7fp.loader import features, mounts, netns
from tests.kernel import reaper
from tests.kernel.world import World

_REPOSITORY = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is a kernel test, and is skipped with the mend where the kernel can't."""
    here = Path(__file__).parent
    mine = [item for item in items if item.path.is_relative_to(here)]
    lacking = _lacking() if mine else ""
    for item in mine:
        item.add_marker(pytest.mark.kernel)
        if lacking:
            item.add_marker(pytest.mark.skip(reason=lacking))


def _lacking() -> str:
    for feature in features.probe():
        if feature.required and feature.answer is not features.Answer.YES:
            return f"{feature.detail or feature.name}: {feature.mend}"
    return ""


@pytest.fixture(scope="session")
def token() -> Iterator[str]:
    """Prefix of all names that this run uses. A watching process removes them when this one ends, however it does."""
    name = f"l7fp-test-{os.getpid()}"
    mounts.ensure_bpffs(reaper.BPFFS)
    path = os.pathsep.join([str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    watcher = subprocess.Popen(
        [sys.executable, "-m", "tests.kernel.reaper", str(os.getpid()), name],
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    yield name
    watcher.kill()
    watcher.wait()
    reaper.remove_all(name)


@pytest.fixture
def bpffs(token: str) -> Iterator[str]:
    """A folder in bpffs for this test alone. Instances left in it are unloaded."""
    path = os.path.join(reaper.BPFFS, token)
    os.makedirs(path, mode=0o700, exist_ok=True)
    yield path
    reaper.remove_bpffs(token)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup v2 folder of this test."""

    path: Path

    @property
    def id(self) -> int:
        """What BPF programs see."""
        return self.path.stat().st_ino

    def child(self, name: str) -> Cgroup:
        """A new cgroup below it."""
        path = self.path / name
        path.mkdir()
        return Cgroup(path)

    def popen(self, argv: Sequence[str], *, netns_fd: int | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a command in it, from its first instruction on, and in a network namespace if one is given."""
        procs = os.open(self.path / "cgroup.procs", os.O_WRONLY)

        def enter() -> None:
            os.write(procs, b"0")
            if netns_fd is not None:
                netns.move_to(netns_fd)

        try:
            return subprocess.Popen(argv, preexec_fn=enter, pass_fds=[procs], **options)
        finally:
            os.close(procs)

    def python(self, code: str, *arguments: str, netns_fd: int | None = None, timeout: float = 20) -> str:
        """Run Python code in it and return what it prints. Fails the test when the code fails."""
        argv = [sys.executable, "-c", code, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = self.popen(argv, netns_fd=netns_fd, **pipes)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == 0, err
        return str(out)


@pytest.fixture
def cgroup(token: str) -> Iterator[Cgroup]:
    """A cgroup for this test alone; processes left in it are killed."""
    root = mounts.cgroup2()
    assert root is not None
    path = Path(root, f"{token}-{next(_numbers)}")
    path.mkdir()
    yield Cgroup(path)
    if path.exists():
        reaper.remove_cgroup(path)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with loopback up and one end of a veth pair."""

    name: str
    fd: int
    address4: str
    address6: str

    @property
    def cookie(self) -> int:
        """What `bpf_get_netns_cookie` returns in it."""
        return netns.cookie(self.fd)

    def call(self, function: Callable[[], Any]) -> Any:
        """The function's result, run in it. Sockets made stay in it."""
        with netns.entered(self.fd):
            return function()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def netns_pair(token: str) -> Iterator[tuple[Namespace, Namespace]]:
    """Two network namespaces joined by a veth pair, with IPv4 and IPv6 addresses ready to use."""
    number = next(_numbers)
    names = [f"{token}-{number}{side}" for side in "ab"]
    made: list[Namespace] = []
    try:
        for index, name in enumerate(names, 1):
            _ip("netns", "add", name)
            fd = netns.open_netns(name)
            made.append(Namespace(name, fd, f"10.201.0.{index}", f"fd00:201::{index}"))
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", names[1])
        for space in made:
            _ip("-n", space.name, "address", "add", f"{space.address4}/24", "dev", "veth0")
            _ip("-n", space.name, "address", "add", f"{space.address6}/64", "dev", "veth0", "nodad")
            _ip("-n", space.name, "link", "set", "veth0", "up")
        yield made[0], made[1]
    finally:
        for space in made:
            os.close(space.fd)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def world(cgroup: Cgroup, bpffs: str, token: str, tmp_path: Path) -> Iterator[World]:
    """A node in small for one test: see `world.World`."""
    made = World(cgroup, bpffs, f"{token}-{next(_numbers)}", tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server and the ordinary policy, shared by the tests of a module that leave it as they found it."""
    root = mounts.cgroup2()
    assert root is not None
    instance = f"{token}-{next(_numbers)}"
    path = Path(root, instance)
    path.mkdir()
    folder = Path(reaper.BPFFS, instance)
    folder.mkdir(mode=0o700)
    made = World(Cgroup(path), str(folder), instance, tmp_path_factory.mktemp("world"))
    try:
        made.serve()
        made.start()
        yield made
    finally:
        made.close()
        reaper.remove_bpffs(folder.name)
        reaper.remove_cgroup(path)
