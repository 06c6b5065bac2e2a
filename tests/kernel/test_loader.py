"""Life of an instance in the kernel: load, look, swap, unload, and all of that after a crash."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l7fp import abi
from l7fp.errors import LoadError, UnavailableError
from l7fp.ir.model import FieldKind, StringKind, StringMatch
from l7fp.loader import layout
from l7fp.loader import sys as bpf
from l7fp.loader.loader import Loader
from l7fp.loader.sys import Kind
from tests.kernel.conftest import Cgroup, Namespace
from tests.kernel.loader_bundles import FIRST, SECOND, compiled, desired, workload

_KINDS = {"map_id": Kind.MAP, "prog_id": Kind.PROG, "link_id": Kind.LINK}


class Witness:
    """Every BPF object that a process ever had open, by /proc, independent of what the loader says."""

    def __init__(self) -> None:
        self.seen: set[tuple[Kind, int]] = set()
        self.steps: list[str] = []

    def look(self, pid: int | str = "self") -> None:
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                lines = entry.read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, value = line.partition(":")
                if name in _KINDS:
                    self.seen.add((_KINDS[name], int(value)))

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        self.look()

    def alive(self, seconds: float = 3.0) -> set[tuple[Kind, int]]:
        """Those still in the kernel, after giving it time to free them."""
        until = time.monotonic() + seconds
        left = self.seen
        while left := {(kind, number) for kind, number in left if bpf.exists(kind, number)}:
            if time.monotonic() > until:
                break
            time.sleep(0.01)
        return left


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def loader(cgroup: Cgroup, bpffs: str, witness: Witness) -> Iterator[Loader]:
    made = Loader(instance="test", cgroup=str(cgroup.path), bpffs=bpffs, on_step=witness)
    yield made
    made.unload()


CLIENT = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
for line in sys.stdin:
    s.sendall(line.encode())
    print("sent", flush=True)
"""


class Client:
    """A connection made from a cgroup to a listener of the test, driven line by line."""

    def __init__(self, cgroup: Cgroup) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = str(self.listener.getsockname()[1])
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = cgroup.popen([sys.executable, "-c", CLIENT, port], **pipes)
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(5)
        self.expect("up")

    def expect(self, word: str) -> None:
        assert self.process.stdout.readline().strip() == word

    def send(self, text: str) -> bytes:
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self.expect("sent")
        return self.peer.recv(100)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(5)
        self.peer.close()
        self.listener.close()


@pytest.fixture
def client(cgroup: Cgroup, loader: Loader) -> Iterator[Client]:
    loader.load(desired(workloads=(workload(cgroup.path.name),)))
    made = Client(cgroup)
    yield made
    made.close()


def test_everything_loaded_is_pinned_for_root_alone(loader: Loader, bpffs: str, cgroup: Cgroup) -> None:
    state = loader.load(desired())
    assert (state.version, state.adopted, state.cgroup) == (1, False, str(cgroup.path))
    root = Path(bpffs, "test")
    for folder in (root, root / "maps", root / "links", root / "progs"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(p.name for p in (root / "links").iterdir()) == [
        "connect4", "connect6", "entry", "getpeername4", "getpeername6", "getsockopt",
        "sendmsg4", "sendmsg6", "sock_ops",
    ]  # fmt: skip
    assert {"conns", "slots", "sockhash", "policy", "endpoint_ids"} <= {p.name for p in (root / "maps").iterdir()}


def test_status_tells_what_is_loaded_from_any_process(loader: Loader, bpffs: str, cgroup: Cgroup) -> None:
    bundle = desired()
    loader.load(bundle)
    loader.endpoint_states["usable"][1] = 1
    status = Loader(instance="test", bpffs=bpffs).status()
    assert status["cgroup"] == str(cgroup.path)
    assert (status["version"], status["base_digest"]) == (1, bundle.base_digest)
    assert (status["pid"], status["owner_alive"]) == (os.getpid(), True)
    assert set(status["links"].values()) == {True}
    assert status["endpoints"] == [
        {"address": "127.0.0.1", "port": 7001, "id": 0, "usable": 0},
        {"address": "::1", "port": 7002, "id": 1, "usable": 1},
    ]
    assert status["captured"] == 2


def test_unload_leaves_no_program_map_link_or_pin(loader: Loader, bpffs: str, witness: Witness) -> None:
    loader.load(desired())
    loader.swap(desired(mark=8))
    witness.look()
    assert len(witness.seen) > 40
    removed = loader.unload()
    assert "links/connect4" in removed
    assert "maps/conns" in removed
    assert witness.alive() == set()
    assert loader.remaining == set()
    assert not Path(bpffs, "test").exists()
    assert loader.unload() == []


HOLD = """
import sys
from l7fp.loader.loader import Loader
with Loader(instance="test", bpffs=sys.argv[1]) as loader:
    loader.adopt()
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_unload_ends_capture_and_tells_what_another_process_holds(
    loader: Loader, bpffs: str, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l7fp.loader.loader.GONE_SECONDS", 0.1)
    loader.load(desired())
    witness.look()
    argv = [sys.executable, "-c", HOLD, bpffs]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        loader.unload()
        assert loader.remaining
        assert {kind for kind, _ in loader.remaining} <= {Kind.MAP, Kind.PROG}, "no link is left"
        process.communicate("")
    assert witness.alive() == set()


def test_pins_of_another_version_are_told(loader: Loader, bpffs: str) -> None:
    loader.load(desired())
    meta = bpf.get_pinned(os.path.join(bpffs, "test", "meta"))
    bpf.map_update(meta, bytes(4), b'{"other": 1}'.ljust(4096, b"\0"))
    os.close(meta)
    status = Loader(instance="test", bpffs=bpffs).status()
    assert (status["version"], status["owner_alive"], status["base_digest"]) == (0, False, "")
    with pytest.raises(LoadError, match=r"loaded for another data plane.*l7fp unload"):
        loader.load(desired())
    assert "links/connect4" in loader.unload()


def test_policy_sees_its_tables(client: Client, loader: Loader) -> None:
    assert client.send("one") == b"one\n"
    (event,) = loader.events().read()
    assert event.version == 1
    assert event.rule == 7, "rules[1].counter"
    assert event.endpoint == 1, "endpoints[1] is the number of the second endpoint"
    assert event.status == 0x2A, "first byte of blob"
    assert event.reason == 81, "host_dfa of port 80"
    assert event.bytes == 1, "namespace of the client's workload"
    assert event.latency_ns == 0b10, "127.0.0.1 is in the second block"
    assert loader.rule_counters() == [(0, 0, 0), (1, 0, 0)]


def test_swap_takes_effect_on_open_connections(client: Client, loader: Loader, witness: Witness) -> None:
    client.send("one")
    assert loader._policy is not None
    old = bpf.prog_info(loader._policy.program).id
    loader.swap(desired(mark=9, endpoints=(SECOND, FIRST)))
    client.send("two")
    first, second = loader.events().read()
    assert (first.version, first.rule, first.endpoint) == (1, 7, 1)
    assert (second.version, second.rule, second.endpoint) == (2, 9, 0), "numbers of endpoints are kept"
    witness.seen = {(Kind.PROG, old)}
    assert witness.alive() == set(), "the old version is freed"


def test_policy_prepared_in_another_thread_is_swapped_in_at_once(
    client: Client, loader: Loader, witness: Witness
) -> None:
    with ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(loader.prepare, desired(mark=5)).result()
    client.send("old")
    loader.swap(prepared)
    client.send("new")
    assert [(event.version, event.rule) for event in loader.events().read()] == [(1, 7), (2, 5)]
    unused = loader.prepare(desired(mark=6))
    witness.look()
    unused.close()
    loader.unload()
    assert witness.alive() == set()


def test_many_swaps_lose_nothing_and_leak_nothing(client: Client, loader: Loader) -> None:
    ring = loader.events()
    fds = len(os.listdir("/proc/self/fd"))
    bundle = desired(workloads=(workload("none"),))
    for number in range(50):
        loader.swap(bundle)
        client.send(str(number))
    assert [event.version for event in ring.read()] == list(range(2, 52))
    assert len(os.listdir("/proc/self/fd")) == fds


def test_unload_with_sockets_still_in_the_sockhash_frees_everything(
    client: Client, loader: Loader, witness: Witness
) -> None:
    client.send("one")
    witness.look()
    loader.unload()
    assert witness.alive() == set()
    assert client.send("two") == b"two\n"


def test_captured_addresses_follow_the_policy(loader: Loader) -> None:
    third = ("10.9.8.7", 80)
    loader.load(desired())
    assert set(loader.maps["captured"].items()) == {FIRST, SECOND}
    loader.capture([third])
    assert set(loader.maps["captured"].items()) == {FIRST, SECOND, third}
    loader.swap(desired(capture=frozenset({SECOND})))
    assert set(loader.maps["captured"].items()) == {SECOND, third}
    loader.capture([])
    assert set(loader.maps["captured"].items()) == {SECOND}


def test_hooks_hold_in_the_cgroup_and_nowhere_else(loader: Loader, cgroup: Cgroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        loader.load(desired(capture=frozenset({address}), workloads=(workload(cgroup.path.name),)))
        connect = f"import socket; socket.create_connection({address!r}).close()"
        cgroup.python(connect)
        cgroup.child("below").python(connect)
        socket.create_connection(address).close()
        stats = loader.maps["stats"].sums()
        assert stats[abi.Reason.CAPTURED] == 1
        assert stats[abi.Reason.IDENTITY] == 1, "the child cgroup is captured and no workload"


def test_cgroups_that_appear_later_are_found(loader: Loader, cgroup: Cgroup) -> None:
    late = f"{cgroup.path.name}/late"
    state = loader.load(desired(workloads=(workload(late),)))
    assert state.missing_workloads == ("shop/cart",)
    assert loader.maps["workload_cgroups"].items() == {}
    child = cgroup.child("late")
    scan = loader.rescan()
    assert list(scan.found) == [child.id]
    assert loader.maps["workload_cgroups"].items() == {child.id: "10.1.2.3"}
    child.path.rmdir()
    assert loader.rescan().missing == ("shop/cart",)
    assert loader.maps["workload_cgroups"].items() == {}


def test_identities_are_those_of_the_policy_in_force_while_it_is_swapped(loader: Loader, cgroup: Cgroup) -> None:
    """The agent scans for cgroups in its own thread while another one swaps, here just before that has finished."""
    mine = (workload(cgroup.path.name),)
    other = ((FieldKind.SOURCE_NAMESPACE, "", StringMatch(StringKind.EXACT, "other")),)
    holds, fails = desired(workloads=mine), desired(workloads=mine, source_atoms=other)
    loader.load(holds)
    with ThreadPoolExecutor(1) as pool:
        scans = []

        def scan_meanwhile(step: str) -> None:
            if step == "record what is loaded":
                scans.append(pool.submit(loader.rescan))
                wait(scans, timeout=0.2)

        loader.on_step = scan_meanwhile
        loader.swap(fails)
        assert list(scans[0].result().found) == [cgroup.id]
    assert loader._policy is not None
    assert layout.view("source_bits", loader._policy.maps["source_bits"]).items() == {cgroup.id: 0}


def test_endpoints_keep_their_number_until_released(loader: Loader) -> None:
    loader.load(desired())
    third = loader.endpoint_id("10.0.0.3", 80)
    assert third == 2
    assert loader.endpoint_id("10.0.0.3", 80) == third
    pools = loader.maps["pools"]
    pools.stack(third).push(42)
    loader.swap(desired(endpoints=(("10.0.0.4", 80), SECOND)))
    assert loader.endpoint_id(*FIRST) == 0, "still numbered though no longer in the policy"
    assert pools.stack(third).pop() == 42, "a swap keeps pools"
    loader.release_endpoint("10.0.0.3", 80)
    assert pools.stack(third) is None
    assert loader.endpoint_id("10.0.0.5", 80) == third


def test_shared_memory_control_and_queues_work(loader: Loader) -> None:
    loader.load(desired())
    state = loader.slots["state"]
    state[5] = 11
    assert loader.ctl(abi.CtlOp.KILL, 5, 12) == (0, 11)
    assert state[5] == 12
    assert loader.ctl(abi.CtlOp.KILL, abi.MAX_SLOTS, 1) == (1, 0)
    ids = [loader.maps["conn_ids"].pop() for _ in range(3)]
    assert ids == [1 << 16, 1 << 16 | 1, 1 << 16 | 2]
    loader.set_listener(77, 4000, 6000)
    assert loader.maps["listeners"].get(77) == {"port4": 4000, "port6": 6000}
    loader.remove_listener(77)
    assert loader.maps["listeners"].get(77) is None
    assert loader.config["body_limit"][0] == abi.BODY_LIMIT


def test_events_are_read_across_the_end_of_the_ring(loader: Loader) -> None:
    loader.load(desired())
    ring = loader.events()
    for _ in range(4):  # 72 bytes each: the second round passes the end of 4 MB
        loader.ctl(abi.CtlOp.SWEEP, 0, 40_000)
        got = ring.read(39_999) + ring.read()
        assert [event.slot for event in got] == list(range(40_000))
    assert ring.read() == []


def test_another_process_adopts_what_is_pinned(loader: Loader, bpffs: str, cgroup: Cgroup) -> None:
    loader.load(desired())
    loader.endpoint_id("10.0.0.3", 80)
    loader.conns["acked"][3] = 99
    loader.close()
    code = f"""
from tests.kernel.loader_bundles import desired
from l7fp.loader.loader import Loader
with Loader(instance="test", cgroup={str(cgroup.path)!r}, bpffs={bpffs!r}) as loader:
    try:
        loader.load(desired())
    except Exception as error:
        print(error)
    state = loader.load(desired(), take_over=True)
    print(state.version, state.adopted, state.endpoints[("10.0.0.3", 80)], loader.conns["acked"][3])
"""
    refused, taken = cgroup.python(code).splitlines()
    assert f"in use by process {os.getpid()}" in refused
    assert taken == "2 True 2 99"
    assert loader.load(desired()).version == 3, "its owner has ended, so nobody needs to ask"


def test_base_of_another_version_is_refused(loader: Loader) -> None:
    loader.load(desired())
    other = desired(base_object=compiled("loader_base.bpf.c", "int another_version;\n"))
    with pytest.raises(LoadError, match=r"another data plane.*l7fp unload"):
        loader.swap(other)
    loader.close()
    with pytest.raises(LoadError, match=r"another data plane.*l7fp unload"):
        loader.load(other)
    assert loader.load(desired()).version == 2


def test_second_instance_on_the_same_cgroup_is_refused(loader: Loader, bpffs: str, cgroup: Cgroup) -> None:
    loader.load(desired())
    below = cgroup.child("below")
    for path in (cgroup.path, below.path):
        second = Loader(instance="second", cgroup=str(path), bpffs=bpffs)
        with pytest.raises(LoadError, match=r"'test' already serves .*--instance test"):
            second.load(desired())
        assert not Path(bpffs, "second").exists()
    loader.unload()
    with Loader(instance="second", cgroup=str(below.path), bpffs=bpffs) as second:
        second.load(desired())
        with pytest.raises(LoadError, match=r"'second' already serves .*/below"):
            loader.load(desired())
        second.unload()


def test_two_instances_on_separate_cgroups_live_side_by_side(bpffs: str, cgroup: Cgroup) -> None:
    with (
        Loader(instance="one", cgroup=str(cgroup.child("one").path), bpffs=bpffs) as one,
        Loader(instance="two", cgroup=str(cgroup.child("two").path), bpffs=bpffs) as two,
    ):
        one.load(desired())
        two.load(desired())
        one.unload()
        assert set(two.status()["links"].values()) == {True}
        two.unload()


def test_removed_cgroup_is_told_on_adoption(loader: Loader, cgroup: Cgroup) -> None:
    loader.load(desired())
    cgroup.path.rmdir()
    cgroup.path.mkdir()
    with pytest.raises(LoadError, match=r"was removed and made again.*l7fp unload"):
        loader.load(desired())


def test_workloads_with_one_cgroup_are_refused(loader: Loader, bpffs: str) -> None:
    twins = (workload("pods/a"), workload("/pods/a/", name="shop/other"))
    with pytest.raises(LoadError, match=r"shop/cart and shop/other have the same cgroup"):
        loader.load(desired(workloads=twins))
    assert not Path(bpffs, "test").exists()


OTHER_SHAPE = """
#include "abi.h"
#undef L7_MAX_ENDPOINTS
#define L7_MAX_ENDPOINTS 17
"""


def test_policy_compiled_for_other_maps_is_refused(loader: Loader, witness: Witness) -> None:
    with pytest.raises(LoadError, match="no table absent"):
        loader.load(desired(tables={"absent": bytes(8)}))
    with pytest.raises(LoadError, match="map endpoint_states is not the one"):
        loader.load(desired(policy_object=compiled("loader_policy.bpf.c", OTHER_SHAPE)))
    witness.look()
    assert witness.alive() == set()


@pytest.mark.parametrize("damage", [b"", b"not an object", None])
def test_unreadable_object_is_one_clear_error(loader: Loader, damage: bytes | None) -> None:
    elf = compiled("loader_base.bpf.c")[:2000] if damage is None else damage
    with pytest.raises(LoadError, match="l7fp_base object"):
        loader.load(desired(base_object=elf))


def test_refused_program_shows_the_end_of_the_log_and_where_all_of_it_is(loader: Loader) -> None:
    bad = compiled("loader_bad.bpf.c")
    with pytest.raises(LoadError, match="verifier refused") as caught:
        loader.load(desired(policy_object=bad, tables={}, ports={}, endpoints=()))
    message = caught.value.message
    assert len(message.splitlines()) <= 8
    path = message.splitlines()[0].rsplit(" ", 1)[1]
    try:
        assert "invalid mem access" in Path(path).read_text()
        assert "invalid mem access" in message
    finally:
        os.unlink(path)


_MANY_ALIKE = ("pin map ", "pin link ", "attach ")


def _distinct(steps: list[str]) -> list[str]:
    """Steps, of many alike the last only."""
    last = {next((p for p in _MANY_ALIKE if step.startswith(p)), step): step for step in steps}
    return [step for step in steps if step in last.values()]


class FailAt:
    """Raises at one step."""

    def __init__(self, step: str, error: BaseException, witness: Witness) -> None:
        self.step, self.error, self.witness = step, error, witness

    def __call__(self, step: str) -> None:
        self.witness.look()
        if step == self.step:
            raise self.error


def test_load_that_fails_at_any_step_leaves_nothing(loader: Loader, witness: Witness, bpffs: str) -> None:
    loader.load(desired())
    loader.unload()
    steps = _distinct(witness.steps)
    assert len(steps) > 15
    for step in steps:
        loader.on_step = FailAt(step, OSError(28, "No space left on device"), witness)
        with pytest.raises(LoadError, match=f"{step}.*No space left"):
            loader.load(desired())
        assert witness.alive() == set(), step
        assert not Path(bpffs, "test").exists(), step
    assert len(os.listdir("/proc/self/fd")) < 64
    loader.on_step = FailAt("attach connect6", KeyboardInterrupt(), witness)
    with pytest.raises(KeyboardInterrupt):
        loader.load(desired())
    assert witness.alive() == set()


def test_swap_that_fails_at_any_step_changes_nothing(client: Client, loader: Loader, witness: Witness) -> None:
    ring = loader.events()
    loader.swap(desired())
    witness.steps.clear()
    other = desired(mark=3, endpoints=(FIRST, ("10.0.0.9", 1)), capture=frozenset({("10.0.0.9", 1)}))
    loader.swap(other)
    loader.swap(desired())
    loader.release_endpoint("10.0.0.9", 1)
    ring.read()
    steps = dict.fromkeys(witness.steps)
    status = loader.status()
    for step in steps:
        loader.on_step = FailAt(step, OSError(5, "Input/output error"), witness)
        with pytest.raises(LoadError, match=step):
            loader.swap(other)
        client.send("x")
        assert [(event.rule, event.version) for event in ring.read()] == [(7, status["version"])], step
        assert set(loader.maps["captured"].items()) == {FIRST, SECOND}, step
        after = {**loader.status(), "rule_counters": status["rule_counters"]}
        assert after == status, step
    loader.on_step = None
    assert loader.swap(other).version == status["version"] + 1


CRASH = """
import os, sys, time
from tests.kernel.loader_bundles import desired
from l7fp.loader.loader import Loader

def step(name):
    if name == sys.argv[3]:
        print("here", flush=True)
        time.sleep(60)

loader = Loader(instance="test", cgroup=sys.argv[1], bpffs=sys.argv[2], on_step=step)
loader.load(desired())
print("here", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("step", ["fill connection ids", "switch to the new policy", "pin link connect4", "loaded"])
@pytest.mark.parametrize("then", ["unload", "load"])
def test_nothing_is_left_of_a_killed_process(
    loader: Loader, cgroup: Cgroup, bpffs: str, witness: Witness, step: str, then: str
) -> None:
    argv = [sys.executable, "-c", CRASH, str(cgroup.path), bpffs, step]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        witness.look(process.pid)
        process.send_signal(signal.SIGKILL)
    assert len(witness.seen) > 20
    if then == "load":
        state = loader.load(desired())
        assert state.adopted == (step == "loaded")
    loader.unload()
    assert witness.alive() == set()
    assert not Path(bpffs, "test").exists()


def test_two_processes_do_not_change_one_instance_at_once(
    loader: Loader, cgroup: Cgroup, bpffs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l7fp.loader.pins._LOCK_SECONDS", 0.1)
    argv = [sys.executable, "-c", CRASH, str(cgroup.path), bpffs, "fill connection ids"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LoadError, match="being changed by another process"):
            loader.load(desired())
        process.kill()


def test_without_privilege_it_says_so_and_how_to_mend_it(loader: Loader, bpffs: str) -> None:
    bundle = desired()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        for action in (lambda: loader.load(bundle), loader.unload, loader.status):
            try:
                action()
                os.write(writing, b"no error\n")
            except UnavailableError as error:
                os.write(writing, f"{error.exit_code} {error}\n".encode())
            except BaseException as error:
                os.write(writing, f"{type(error)}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        lines = file.read().splitlines()
    os.waitpid(child, 0)
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("3 not root: CAP_NET_ADMIN")
        assert "sudo" in line
    assert not Path(bpffs, "test").exists()


LEAST = """
import sys
from tests.kernel.loader_bundles import desired
from l7fp.loader.loader import Loader
loader = Loader(instance="test", cgroup=sys.argv[1], bpffs=sys.argv[2])
loader.load(desired())
print(loader.swap(desired(mark=9)).version)
try:
    loader.adopt()
except Exception as error:
    print(error)
print("links/connect4" in loader.unload())
"""


def test_three_capabilities_are_enough_to_load_swap_and_unload(cgroup: Cgroup, bpffs: str) -> None:
    bounded = ["setpriv", "--bounding-set=-all,+bpf,+net_admin,+perfmon"]
    argv = [*bounded, sys.executable, "-c", LEAST, str(cgroup.path), bpffs]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "2",
        "opening what is loaded needs CAP_SYS_ADMIN (run it as root (sudo))",
        "True",
    ]
    assert not Path(bpffs, "test").exists()


def test_cgroup_that_is_none_is_refused(bpffs: str, tmp_path: Path) -> None:
    for path in (str(tmp_path), "/nowhere/at/all", "relative/nothing"):
        with pytest.raises(UnavailableError, match="not a directory of cgroup v2"):
            Loader(cgroup=path, bpffs=bpffs).load(desired())


def _listen(space: Namespace) -> socket.socket:
    made = space.call(lambda: socket.create_server((space.address4, 0)))
    assert isinstance(made, socket.socket)
    return made


def test_protected_endpoints_refuse_direct_connections(loader: Loader, netns_pair: tuple[Namespace, Namespace]) -> None:
    near, far = netns_pair
    with _listen(far) as guarded, _listen(far) as other:
        address = guarded.getsockname()
        near.call(lambda: socket.create_connection(address, 2).close())
        bundle = desired(protect=frozenset({address}))
        loader.load(bundle, protect=True, protect_netns=[far.fd])
        with pytest.raises(OSError, match=r"refused|timed out"):
            near.call(lambda: socket.create_connection(address, 2).close())
        near.call(lambda: socket.create_connection(other.getsockname(), 2).close())
        loader.protect_netns(far.fd)
        loader.swap(replace(bundle, protect=frozenset()))
        near.call(lambda: socket.create_connection(address, 2).close())
        loader.swap(bundle)
        loader.unload()
        near.call(lambda: socket.create_connection(address, 2).close())
