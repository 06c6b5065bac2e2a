"""The agent's life on a node: namespaces, policies that change, stopping, dying, and coming back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l7fp import abi
from l7fp.loader import netns
from l7fp.loader.loader import Loader
from tests.kernel.conftest import Cgroup, Namespace
from tests.kernel.world import PORT, RULES, VIP, VIP6, Client, World, deployment, policy, rule


def connect_in(space: Namespace, address: str = VIP, port: int = PORT) -> Client:
    """A connection whose socket was made in that namespace."""
    sock = space.call(lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    assert isinstance(sock, socket.socket)
    sock.settimeout(5)
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return Client(sock)


@contextmanager
def load(world: World, clients: int, paths: tuple[str, ...]) -> Iterator[Counter[str]]:
    """Clients that ask one thing after the other in the block. Counts `ok`, and whatever else happened by its text."""
    outcome: Counter[str] = Counter()
    stop = threading.Event()

    def run(number: int) -> None:
        client, sent = world.connect(), 0
        while not stop.is_set():
            sent += 1
            path = f"{paths[sent % len(paths)]}/{number}/{sent}"
            try:
                response = client.get(path)
            except (OSError, EOFError) as error:
                outcome[f"{type(error).__name__} {path}"] += 1
                return
            good = response.status == 200 and response.text.rstrip(".").endswith(f" {path} body=0 ")
            outcome["ok" if good or response.status == 403 else f"{response.status} {response.text[:80]} {path}"] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield outcome
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_requests_are_served_in_the_kernel(served: World) -> None:
    with served.counting() as grown, served.client():
        client = served.connect()
        for number in range(50):
            assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
        assert client.get("/deny/x").status == 403
    assert (grown["forwarded"], grown["replied"]) == (50, 1)
    assert served.status()["endpoints"][0]["usable"]


def test_rules_and_reasons_are_counted(served: World) -> None:
    def counts() -> dict[str, tuple[int, int, int]]:
        return {r["name"]: (r["forwarded"], r["replied"], r["diverted"]) for r in served.status()["rules"]}

    before = counts()
    with served.client():
        client = served.connect()
        for path in ("/deny/x", "/edit/x", "/slow/x", "/edit/y"):
            client.get(path)
    after = counts()
    grown = {name: tuple(a - b for a, b in zip(after[name], before[name], strict=True)) for name in after}
    assert (grown["deny"], grown["edit"], grown["slow"]) == ((0, 1, 0), (2, 0, 0), (0, 0, 1))


# --- namespaces -------------------------------------------------------------------------------------------------------


def test_client_and_server_in_two_namespaces_over_both_families(
    world: World, netns_pair: tuple[Namespace, Namespace]
) -> None:
    here, there = netns_pair
    world.serve("four", address=there.address4, netns_fd=there.fd)
    world.serve("six", address=there.address6, netns_fd=there.fd)
    world.processes.append(world.clients.popen(["sleep", "100"], netns_fd=here.fd))
    world.start()
    world.wait(lambda: any(n["cookie"] == here.cookie for n in world.status()["namespaces"]))
    with world.client(), world.counting() as grown:
        seen = set()
        for address in (VIP, VIP6):
            client = connect_in(here, address)
            for number in range(4):
                for path in (f"/a/{number}", f"/slow/{number}", f"/big/300000/{number}"):
                    name, _, rest = client.get(path).text.rstrip(".").partition(" ")
                    assert rest == f"{path} body=0 "
                    seen.add(name)
            client.sock.close()
            client = connect_in(here, address)
            assert client.get("/deny/x").status == 403
            client.sock.close()
    assert seen == {"four", "six"}
    assert grown["replied"] == 2
    assert grown["forwarded"] >= 12  # one that comes before the slot of the one before is released goes slow


def test_a_connection_from_a_namespace_nobody_knows_is_refused_and_makes_it_known(
    world: World, netns_pair: tuple[Namespace, Namespace]
) -> None:
    world.serve()
    world.start()
    subprocess.run(["ip", "netns", "add", f"{netns_pair[0].name}x"], check=True)
    late = netns.open_netns(f"{netns_pair[0].name}x")
    space = Namespace(f"{netns_pair[0].name}x", late, "", "")
    subprocess.run(["ip", "-n", space.name, "link", "set", "lo", "up"], check=True)
    try:
        with world.client(), world.counting() as grown:
            refusals = 0
            for _ in range(200):
                try:
                    client = connect_in(space)
                    break
                except ConnectionRefusedError:
                    refusals += 1
                    time.sleep(0.01)
            assert client.get("/a/x").text == "s1 /a/x body=0 "
            client.sock.close()
        assert grown["no_listener"] == refusals
    finally:
        subprocess.run(["ip", "netns", "del", space.name], check=True)
    cookie = space.cookie
    netns_fd = space.fd
    world.wait(lambda: not any(n["cookie"] == cookie for n in world.status()["namespaces"]), 20)
    os.close(netns_fd)


def test_a_server_outside_the_managed_cgroup_is_served_on_the_slow_path(world: World) -> None:
    outside = world.cgroup.path.with_name(world.cgroup.path.name + "-outside")
    outside.mkdir()
    try:
        world.serve(cgroup=Cgroup(outside))
        world.start(usable=0)
        with world.client(), world.counting() as grown:
            client = world.connect()
            for number in range(3):
                assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
        assert not grown["forwarded"]
        world.wait(lambda: "cgroup" in world.status()["endpoints"][0]["failure"])
    finally:
        world.close()
        outside.rmdir()


def test_a_protected_server_answers_nobody_who_goes_around(
    world: World, netns_pair: tuple[Namespace, Namespace]
) -> None:
    here, there = netns_pair
    world.serve("s1", address=there.address4, netns_fd=there.fd)
    world.serve("s1", address=there.address6, netns_fd=there.fd)
    world.start(protect=True)
    # this process is no client: nothing captures its connections
    with world.counting() as grown:
        for space in (here, there):
            for address, port in world.endpoints:
                with pytest.raises(ConnectionRefusedError):
                    connect_in(space, address, port)
    assert grown["backstop"] == 4
    with world.client():
        client = world.connect()
        for path in ("/a/x", "/slow/x", "/a/y", "/slow/y"):
            assert client.get(path).text == f"s1 {path} body=0 "
    world.stop()
    for address, port in world.endpoints:
        client = connect_in(here, address, port)
        assert client.get("/free").text == "s1 /free body=0 "
        client.sock.close()


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_new_policy_is_in_force_at_once_on_connections_that_are_open(world: World) -> None:
    world.serve()
    world.start()
    closed = deployment(policy(world.endpoints, rules=(*RULES[:1], rule("all", "/open"))))
    with world.client():
        client = world.connect()
        assert client.get("/a/x").status == 200
        world.reload(world.write(closed))
        assert client.get("/a/x").status == 404
        assert client.get("/open/x").text == "s1 /open/x body=0 "


@pytest.mark.parametrize("swaps", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_policies_swapped_many_times_under_load_lose_nothing(world: World, swaps: int) -> None:
    world.serve()
    world.serve("s2")
    one = world.write(deployment(policy(world.endpoints)))
    two = world.write(deployment(policy(world.endpoints[:1], rules=(rule("first", "/a", timeout_ms=5000), *RULES))))
    world.start()
    with world.client(), load(world, 6, ("/a", "/slow", "/edit", "/a", "/big/2000", "/deny")) as outcome:
        versions = [world.reload((one, two)[number % 2]) for number in range(swaps)]
    assert versions == list(range(versions[0], versions[0] + swaps))
    assert set(outcome) == {"ok"}
    assert outcome["ok"] > 2000


def test_an_endpoint_that_leaves_finishes_its_requests_and_one_that_returns_is_used(world: World) -> None:
    world.serve("s1")
    world.serve("s2")
    world.start()
    only = world.write(deployment(policy(world.endpoints[:1])))
    both = world.write(deployment(policy(world.endpoints)))
    with world.client():
        clients = [world.connect() for _ in range(6)]
        for client in clients:
            client.send(b"GET /sleep/200 HTTP/1.1\r\nHost: web\r\n\r\n")
        world.reload(only)
        assert {c.read().text.split()[0] for c in clients} == {"s1", "s2"}
        assert {c.get("/a/x").text.split()[0] for c in clients} == {"s1"}
        world.reload(both)
        world.wait_usable(2)
        with world.counting() as grown:
            assert {c.get("/a/x").text.split()[0] for c in clients} == {"s1", "s2"}
        assert grown["forwarded"] == 6


def test_response_edits_are_those_of_the_version_that_routed_the_request(world: World) -> None:
    world.serve()
    world.start()
    edited = rule("all", "", response_headers=replace(RULES[3].action.response_headers, set=(("x-version", "2"),)))  # type: ignore[union-attr]
    two = world.write(deployment(policy(world.endpoints, rules=(edited,))))
    with world.client():
        client = world.connect()
        client.send(b"GET /edit/sleep/300 HTTP/1.1\r\nHost: web\r\n\r\n")
        time.sleep(0.05)
        world.reload(two)
        old = client.read()
        assert (old.header("x-response-edit"), old.header("x-version"), old.header("server")) == ("1", None, None)
        assert client.get("/edit/x").header("x-version") == "2"


# --- the end ----------------------------------------------------------------------------------------------------------


def left_behind(world: World) -> list[str]:
    """What is pinned, and sockets or folders of the agent."""
    pinned = [str(p) for p in Path(world.bpffs).iterdir()]
    return pinned + [str(p) for p in Path("/run/l7fp").glob(f"{world.instance}*")]


def test_stopping_under_load_ends_requests_in_order_and_leaves_nothing(world: World) -> None:
    world.serve()
    world.start()
    with world.client():
        # clients of a service that goes away: their next connection is a plain one, and nobody is at the VIP
        with load(world, 6, ("/a", "/slow", "/a", "/big/300000")) as outcome:
            time.sleep(0.5)
            assert world.stop() == 0
        broken = {what: n for what, n in outcome.items() if what != "ok"}
        # a connection may end between two requests, never in the middle of an answer
        assert all(what.startswith(("EOFError", "ConnectionResetError", "BrokenPipeError")) for what in broken), broken
        assert outcome["ok"] > 100
    assert left_behind(world) == []


def test_a_request_under_way_when_the_agent_stops_is_answered(world: World) -> None:
    world.serve()
    world.start()
    with world.client():
        clients = [world.connect() for _ in range(4)]
        paths = ["/sleep/500", "/slow/sleep/500", "/big/5000000", "/chunked/5000000"]
        for client, path in zip(clients, paths, strict=True):
            client.send(f"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
        time.sleep(0.1)
        stopping = threading.Thread(target=world.stop)
        stopping.start()
        for client, path in zip(clients, paths, strict=True):
            assert client.read().text.startswith(f"s1 {path} body=0 ")
        stopping.join()
    assert left_behind(world) == []


def test_a_killed_agent_leaves_services_closed_and_another_takes_over(world: World) -> None:
    world.serve()
    world.start()
    with world.client():
        before = world.connect()
        assert before.get("/a/x").status == 200
        before.send(b"GET /sleep/300 HTTP/1.1\r\nHost: web\r\n\r\n")
        time.sleep(0.05)
        world.stop(signal.SIGKILL)
        with pytest.raises(ConnectionRefusedError):
            world.connect()
        with pytest.raises((EOFError, ConnectionError)):
            before.read()
        world.start()
        client = world.connect()
        with world.counting() as grown:
            for number in range(20):
                assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
                assert client.get(f"/slow/{number}").text == f"s1 /slow/{number} body=0 "
        assert grown["forwarded"] == 20
        before.sock.close()
    world.wait(lambda: world.status()["endpoints"][0]["connections"] == 8)


def test_nobody_else_takes_the_place_of_a_killed_agent(world: World) -> None:
    world.serve()
    world.start()
    ports = [n[key] for n in world.status()["namespaces"] if n["name"] == "own" for key in ("port4", "port6")]
    with world.client():
        client = world.connect()
        assert client.get("/a/x").status == 200
        client.sock.close()
        world.wait(lambda: world.status()["connections"] == 0)  # nothing keeps the ports in use
        world.stop(signal.SIGKILL)
        impostors = []
        for family, address, port in zip((socket.AF_INET, socket.AF_INET6), ("127.0.0.1", "::1"), ports, strict=True):
            impostor = socket.create_server((address, port), family=family)
            impostor.settimeout(0.2)
            impostors.append(impostor)
        for destination in (VIP, VIP6):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((destination, PORT), timeout=1)
        for impostor in impostors:
            with pytest.raises(TimeoutError):
                impostor.accept()
            impostor.close()


def test_after_a_killed_agent_unload_leaves_nothing_and_services_open(world: World) -> None:
    world.serve()
    world.start()
    with world.client():
        assert world.connect().get("/a/x").status == 200
    world.stop(signal.SIGKILL)
    Path(f"/run/l7fp/{world.instance}.sock").unlink()
    with Loader(instance=world.instance, bpffs=world.bpffs) as loader:
        assert loader.unload()
        assert not loader.remaining
    assert left_behind(world) == []
    with world.client():
        client = world.connect(*world.endpoints[0])
        assert client.get("/direct").text == "s1 /direct body=0 "


def test_connection_ids_do_not_run_out(served: World) -> None:
    """Far more connections than would fit if ids leaked at any of the ways a connection can end."""
    with served.client():
        for number in range(600):
            client = served.connect()
            if number % 3:
                client.send(b"GET /a/x HTTP/1.1\r\nHost: web\r\n\r\n")
            if number % 3 == 2:
                client.read()
            client.sock.close()
    served.wait(lambda: served.status()["connections"] == 0)
    with Loader(instance=served.instance, bpffs=served.bpffs) as loader:
        loader.adopt()
        queue = loader.maps["conn_ids"]

        def free() -> int:
            ids = list(iter(queue.pop, None))
            for conn_id in ids:
                queue.push(conn_id)
            return len({conn_id & 0xFFFF for conn_id in ids})

        served.wait(lambda: free() == abi.MAX_CONNS, 20)


def test_the_admin_socket_streams_what_the_kernel_does(served: World) -> None:
    with socket.socket(socket.AF_UNIX) as tap:
        tap.settimeout(5)
        tap.connect(f"/run/l7fp/{served.instance}.sock")
        tap.sendall(b'{"op": "events"}\n')
        lines = tap.makefile("rb")
        assert lines.readline() == b'{"ok": true}\n'
        with served.client():
            client = served.connect()
            for _ in range(3):
                client.get("/a/x")
                client.get("/deny/x")
        seen = [json.loads(lines.readline()) for _ in range(4)]
        assert {event["status"] for event in seen} == {200, 403}
        assert all(event["latency_ns"] > 0 for event in seen if event["status"] == 200)
