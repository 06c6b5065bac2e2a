"""The loader's parts on the kernel: maps of every kind, namespaces, probes, and the fixtures' own cleaning."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l7fp.codegen.sources import address_bits
from l7fp.errors import LoadError, UnavailableError
from l7fp.loader import codecs, endpoints, features, maps, mounts, netns
from l7fp.loader import sys as bpf
from l7fp.loader.codecs import U32, U64
from l7fp.loader.endpoints import EndpointIds
from l7fp.loader.sys import Kind, MapType
from tests.kernel import reaper
from tests.kernel.conftest import Namespace

_REPOSITORY = Path(__file__).resolve().parents[2]


class Maker:
    """Creates maps that end with the test."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def __call__(self, kind: MapType, key_size: int = 4, value_size: int = 4, entries: int = 8, flags: int = 0) -> int:
        shape = {"key_size": key_size, "value_size": value_size, "max_entries": entries}
        self.fds.append(bpf.map_create(kind, **shape, flags=flags, name="l7fp_test"))
        return self.fds[-1]


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    for fd in maker.fds:
        os.close(fd)


def test_hash_is_a_mapping(make: Maker) -> None:
    view = maps.HashView(make(MapType.HASH, 20, 4, entries=5000), codecs.ADDRESS, U32)
    many = {(f"10.0.{n >> 8}.{n & 255}", 80): n for n in range(5000)}
    view.update(many)
    assert view.items() == many
    assert view.get(("10.0.0.9", 80)) == 9
    assert view.delete(("10.0.0.9", 80))
    assert not view.delete(("10.0.0.9", 80))
    assert view.get(("10.0.0.9", 80)) is None
    view.set(("::1", 1), 7)
    with pytest.raises(OSError, match="too long"):
        view.set(("::2", 1), 7)


def test_longest_prefix_map_answers_for_both_families(make: Maker) -> None:
    fd = make(MapType.LPM_TRIE, 20, 8, entries=64, flags=bpf.NO_PREALLOC)
    view = maps.HashView(fd, codecs.LPM_KEY, U64)
    view.update(address_bits(["10.0.0.0/8", "10.1.0.0/16", "::/0", "fd00::/8"]))

    def bits(address: str) -> int | None:
        return view.get((128, codecs.address_bytes(address)))

    assert [bits(a) for a in ("10.1.2.3", "10.2.0.1", "11.0.0.1", "fd00::1", "2001::1")] == [3, 1, 0, 12, 4]


def test_queue_and_stack_keep_their_order(make: Maker) -> None:
    for kind, order in ((MapType.QUEUE, [1, 2, 3]), (MapType.STACK, [3, 2, 1])):
        view = maps.QueueView(make(kind, 0, 4, entries=3))
        for value in (1, 2, 3):
            view.push(value)
        with pytest.raises(OSError, match="too long"):
            view.push(4)
        assert [view.pop() for _ in range(4)] == [*order, None]


def test_array_is_filled_in_batches_and_read_by_index(make: Maker) -> None:
    view = maps.ArrayView(make(MapType.ARRAY, 4, 8, entries=10_000), U64, 10_000)
    view.fill([U64.pack(n * n) for n in range(9_999)], first=1)
    assert [view.get(n) for n in (0, 1, 4097, 9_999)] == [0, 0, 4096**2, 9_998**2]
    view.set(5, 1)
    assert view.get(5) == 1
    with pytest.raises(IndexError):
        view.get(10_000)


def test_per_cpu_counters_are_summed(make: Maker) -> None:
    fd, cpus = make(MapType.PERCPU_ARRAY, 4, 8, entries=3), maps.possible_cpus()
    bpf.map_update(fd, U32.pack(1), b"".join(U64.pack(n + 1) for n in range(cpus)))
    assert maps.PerCpuView(fd, 3).sums() == [0, sum(range(cpus + 1)), 0]


def test_socket_storage_is_reached_by_the_sockets_fd() -> None:
    """SK_STORAGE wants BTF, so the map comes from an object."""
    from l7fp.loader.objects import load_base
    from tests.kernel.loader_bundles import compiled

    base = load_base(compiled("loader_base.bpf.c"))
    try:
        view = maps.StorageView(base.maps["sock_storage"], U32, codecs.record("sock_state"))
        with socket.socket() as one, socket.socket() as two:
            assert view.get(one.fileno()) is None
            view.set(one.fileno(), {"kind": 4, "id": 9, "orig_ip": (0, 0, 1, 2)})
            found = view.get(one.fileno())
            assert found is not None
            assert (found["kind"], found["id"], found["orig_ip"]) == (4, 9, (0, 0, 1, 2))
            assert view.get(two.fileno()) is None
            assert view.delete(one.fileno())
            assert view.get(one.fileno()) is None
    finally:
        base.close()


@pytest.fixture
def ids(make: Maker) -> Iterator[EndpointIds]:
    inner = make(MapType.STACK, 0, 4, entries=4)
    outer = bpf.map_create(
        MapType.ARRAY_OF_MAPS, key_size=4, value_size=4, max_entries=2, inner_fd=inner, name="l7fp_test"
    )
    numbers = endpoints.create_map()
    pools = maps.PoolsView(outer, depth=4)
    yield EndpointIds(numbers, pools)
    pools.close()
    os.close(outer)
    os.close(numbers)


def test_endpoints_that_can_not_all_be_numbered_are_not_numbered_at_all(ids: EndpointIds) -> None:
    assert ids.allocate([("10.0.0.1", 1)]) == [("10.0.0.1", 1)]
    with pytest.raises(OSError, match="too long"):  # two pools only
        ids.allocate([("10.0.0.2", 1), ("10.0.0.3", 1)])
    assert ids.all() == {("10.0.0.1", 1): 0}
    assert ids.allocate([("10.0.0.3", 1), ("10.0.0.1", 1)]) == [("10.0.0.3", 1)]
    assert ids.get(("10.0.0.3", 1)) == 1


def test_more_endpoints_than_numbers_is_told(ids: EndpointIds) -> None:
    with pytest.raises(LoadError, match="more than 4096 endpoints"):
        ids.allocate((f"10.0.{n >> 8}.{n & 255}", 80) for n in range(4097))


def test_ids_of_freed_objects_are_gone() -> None:
    fd = bpf.map_create(MapType.ARRAY, key_size=4, value_size=4, max_entries=1, name="l7fp_test")
    number = bpf.map_info(fd).id
    assert bpf.exists(Kind.MAP, number)
    assert number in set(bpf.ids(Kind.MAP))
    os.close(fd)
    until = time.monotonic() + 2
    while bpf.exists(Kind.MAP, number) and time.monotonic() < until:
        time.sleep(0.005)
    assert not bpf.exists(Kind.MAP, number)
    assert bpf.open_id(Kind.MAP, number) is None


def test_namespace_is_entered_and_left(netns_pair: tuple[Namespace, Namespace]) -> None:
    near, far = netns_pair
    home = netns.cookie()
    assert len({home, near.cookie, far.cookie}) == 3
    with netns.entered(near.fd):
        assert netns.cookie() == near.cookie
        with netns.entered(far.fd):
            assert netns.cookie() == far.cookie
        assert netns.cookie() == near.cookie
        listener = socket.create_server((near.address4, 0))
    assert netns.cookie() == home
    with listener:
        address = listener.getsockname()
        far.call(lambda: socket.create_connection(address, 2).close())
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection(address, 1)
    with pytest.raises(ZeroDivisionError), netns.entered(near.fd):
        _ = 1 / 0
    assert netns.cookie() == home


def test_namespace_pair_speaks_ipv6(netns_pair: tuple[Namespace, Namespace]) -> None:
    near, far = netns_pair
    with far.call(lambda: socket.create_server((far.address6, 0), family=socket.AF_INET6)) as listener:
        near.call(lambda: socket.create_connection((far.address6, listener.getsockname()[1]), 5).close())


def test_this_machine_passes_every_required_probe() -> None:
    found = {feature.name: feature for feature in features.probe()}
    assert {f"program {name}" for name in ("connect4", "sk_msg", "sk_lookup", "syscall")} <= set(found)
    assert [f.name for f in found.values() if f.required and f.answer is not features.Answer.YES] == []
    features.require()


def test_unknown_program_type_is_a_no() -> None:
    assert features.judge("x", lambda: bpf.prog_load(4000, bytes(8))).answer is features.Answer.NO


def test_missing_requirement_is_one_error_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "5.4.0")
    with pytest.raises(UnavailableError, match=r"Linux 5\.4\.0 is too old \(run a kernel of 6\.1 or later\)") as caught:
        features.require()
    assert caught.value.exit_code == 3


def test_bpffs_is_mounted_where_there_is_none(tmp_path: Path) -> None:
    """In a mount namespace of its own."""
    code = f"""
import ctypes, os
from l7fp.loader import mounts
libc = ctypes.CDLL(None)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
path = {str(tmp_path / "bpf")!r}
assert not mounts.is_bpffs(path)
mounts.ensure_bpffs(path)
assert mounts.is_bpffs(path)
mounts.ensure_bpffs(path + "/below")
assert os.path.isdir(path + "/below") and mounts.is_bpffs(path + "/below")
print("mounted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_REPOSITORY, check=False)
    assert done.stdout == "mounted\n", done.stderr
    assert not mounts.is_bpffs(str(tmp_path / "bpf"))


def test_what_a_killed_test_run_leaves_is_removed(token: str, tmp_path: Path) -> None:
    """The watching process cleans up after a process that had no chance to."""
    other = f"{token}-killed"
    root = mounts.cgroup2()
    assert root is not None
    cgroup = Path(root, other)
    code = f"""
import subprocess, sys, time
from pathlib import Path
from l7fp.loader.loader import Loader
from tests.kernel.loader_bundles import desired
Path({str(cgroup)!r}).mkdir()
Path({str(cgroup / "child")!r}).mkdir()
subprocess.run(["ip", "netns", "add", {other!r}], check=True)
Path({str(cgroup / "child" / "cgroup.procs")!r}).write_text("0")
Loader(instance="test", cgroup={str(cgroup)!r}, bpffs={os.path.join(reaper.BPFFS, other)!r}).load(desired())
print("ready", flush=True)
time.sleep(60)
"""
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY) as victim:
        watch = [sys.executable, "-m", "tests.kernel.reaper", str(victim.pid), other]
        with subprocess.Popen(watch, cwd=_REPOSITORY) as watcher:
            assert victim.stdout is not None
            assert victim.stdout.readline() == "ready\n"
            victim.send_signal(signal.SIGKILL)
            assert watcher.wait(20) == 0
    assert not cgroup.exists()
    assert not Path(reaper.BPFFS, other).exists()
    assert not Path("/run/netns", other).exists()
