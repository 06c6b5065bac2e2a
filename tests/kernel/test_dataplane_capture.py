"""No way around: whatever kind of socket a client uses, and whoever it pretends to be."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    Condition,
    Field,
    FieldKind,
    Match,
    StringKind,
    StringMatch,
    Workload,
)
from l7fp.loader import mounts
from tests.kernel.conftest import Cgroup, Namespace
from tests.kernel.world import PORT, VIP, VIP6, Client, World, policy, request

IPPROTO_MPTCP = 262
MSG_FASTOPEN = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


def disconnect(sock: socket.socket) -> None:
    """connect(AF_UNSPEC)"""
    assert _libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16) == 0


def ask(sock: socket.socket, path: str = "/a/x") -> str:
    """The body of the answer on a connected socket."""
    client = Client(sock)
    with sock:
        return client.get(path).text


def test_an_ipv6_service_is_captured_like_an_ipv4_one(served: World) -> None:
    with served.counting() as grown, served.client():
        client = served.connect(VIP6)
        assert client.get("/a/six").text == "s1 /a/six body=0 "
        assert client.get("/deny/six").status == 403
        assert client.sock.getpeername()[:2] == (VIP6, PORT)
    assert (grown["forwarded"], grown["replied"]) == (1, 1)


def test_an_ipv4_mapped_address_is_the_ipv4_service(served: World) -> None:
    with served.counting() as grown, served.client():
        sock = socket.socket(socket.AF_INET6)
        sock.connect((f"::ffff:{VIP}", PORT))
        assert sock.getpeername()[:2] == (f"::ffff:{VIP}", PORT)
        assert ask(sock) == "s1 /a/x body=0 "
    assert grown["forwarded"] == 1


def test_the_application_sees_the_peer_it_asked_for(served: World) -> None:
    with served.client():
        assert served.connect().sock.getpeername() == (VIP, PORT)


def test_endpoints_are_captured_at_their_own_address_too(served: World) -> None:
    """A request to a server's address does not match the service's port: the proxy decides, not the server."""
    with served.counting() as grown, served.client():
        client = served.connect(*served.endpoints[0])
        client.send(request("/a/direct"))
        assert client.read().status in (200, 404)
    assert grown["captured"] == 1


def test_a_non_blocking_connect_is_captured(served: World) -> None:
    with served.counting() as grown, served.client():
        sock = socket.socket()
        sock.setblocking(False)
        assert sock.connect_ex((VIP, PORT)) in (0, errno.EINPROGRESS)
        assert ask(sock) == "s1 /a/x body=0 "
    assert grown["forwarded"] == 1


def test_a_bound_socket_is_captured(served: World) -> None:
    with served.counting() as grown, served.client():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.connect((VIP, PORT))
        assert ask(sock) == "s1 /a/x body=0 "
    assert grown["forwarded"] == 1


def test_data_in_the_syn_is_captured(served: World) -> None:
    with served.counting() as grown, served.client():
        sock = socket.socket()
        sock.sendto(request("/a/tfo"), MSG_FASTOPEN, (VIP, PORT))
        client = Client(sock)
        assert client.read().text == "s1 /a/tfo body=0 "
        assert client.get("/a/x").text == "s1 /a/x body=0 "
        sock.close()
    assert grown["captured"] == 1


def test_a_multipath_client_is_served_on_the_slow_path_alone(served: World) -> None:
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")
    sock.close()
    with served.counting() as grown, served.client():
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        sock.connect((VIP, PORT))
        client = Client(sock)
        for number in range(5):
            assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
        assert client.get("/deny/x").status == 403
        sock.close()
    assert grown["mptcp"] == 1
    assert (grown["forwarded"], grown["replied"]) == (0, 0)


def test_datagrams_to_a_managed_port_are_refused(served: World) -> None:
    with served.counting() as grown, served.client():
        for family, address in ((socket.AF_INET, VIP), (socket.AF_INET6, VIP6)):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                with pytest.raises(ConnectionRefusedError):
                    sock.sendto(b"x", (address, PORT))
                with pytest.raises(ConnectionRefusedError):
                    sock.connect((address, PORT))
    assert grown["not_tcp"] == 4


def test_a_socket_that_disconnects_loses_its_fast_path(served: World) -> None:
    """connect(AF_UNSPEC) and connect elsewhere: the policy must not follow, nor the other's bytes be read."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, served.client():
        for path in ("/a/x", "/sleep/50"):
            sock = socket.socket()
            sock.settimeout(5)
            sock.connect((VIP, PORT))
            client = Client(sock)
            client.send(request(path))
            if path == "/a/x":
                client.read()
            disconnect(sock)
            sock.connect(elsewhere.getsockname())
            accepted, _ = elsewhere.accept()
            assert sock.getpeername() == elsewhere.getsockname()
            client.send(request("/deny/elsewhere"))
            assert accepted.recv(1000) == request("/deny/elsewhere")
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nelsewhere")
            assert client.read().text == "elsewhere"
            assert client.silent()
            accepted.close()
            disconnect(sock)
            sock.connect((VIP, PORT))
            assert ask(sock) == "s1 /a/x body=0 "


def test_a_socket_bound_to_a_device_is_captured(world: World, netns_pair: tuple[Namespace, Namespace]) -> None:
    here, _ = netns_pair
    world.serve(address="127.0.0.1")
    world.start()
    with world.client():

        def connect() -> Client:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth0\0")
            sock.settimeout(5)
            sock.connect((VIP, PORT))
            return Client(sock)

        # the first tells the agent of the namespace, unless a scan was faster
        process = world.clients.popen(["sleep", "60"], netns_fd=here.fd)
        world.processes.append(process)
        world.wait(lambda: any(n["cookie"] == here.cookie for n in world.status()["namespaces"]))
        client = here.call(connect)
        assert client.get("/a/x").text == "s1 /a/x body=0 "
        client.sock.close()


def test_what_goes_nowhere_near_a_service_is_left_alone(served: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, served.counting() as grown, served.client():
        sock = socket.create_connection(other.getsockname())
        sock.sendall(b"hello")
        accepted, _ = other.accept()
        assert accepted.recv(10) == b"hello"
        sock.close()
        accepted.close()
    assert not grown["captured"]


def test_the_listener_serves_nobody_who_comes_directly(served: World) -> None:
    port = served.status()["namespaces"][0]["port4"]
    before = served.status()["clients"]["unattributed"]
    with served.client():
        sock = socket.create_connection(("127.0.0.1", port))
        sock.settimeout(5)
        assert Client(sock).ended()
        sock.close()
    assert served.status()["clients"]["unattributed"] == before + 1


# --- identity ---------------------------------------------------------------------------------------------------------


def only_from(namespace: str) -> AuthzPolicy:
    """ALLOW what comes from that namespace."""
    condition = Condition(field=Field(FieldKind.SOURCE_NAMESPACE), any_of=(StringMatch(StringKind.EXACT, namespace),))
    rule = AuthzRule(sources=(Match(conditions=(condition,)),))
    return AuthzPolicy(name="default/only", action=AuthzAction.ALLOW, rules=(rule,))


class Guarded:
    """A world whose server lets only the namespace `friends` in. `friend` and `foe` are cgroups."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.friend: Cgroup = world.clients.child("friend")
        self.foe: Cgroup = world.clients.child("foe")
        world.serve()
        root = Path(mounts.cgroup2() or "/")
        below = {c: str(c.path.relative_to(root)) for c in (self.friend, self.foe, world.servers)}
        workloads = (
            Workload(name="foe", namespace="strangers", cgroup=below[self.foe]),
            Workload(name="friend", namespace="friends", cgroup=below[self.friend]),
            Workload(name="server", namespace="default", cgroup=below[world.servers], policies=("default/only",)),
        )
        base = policy(world.endpoints, workloads=workloads)
        cluster = base.clusters[0]
        endpoints = tuple(type(e)(address=e.address, port=e.port, workload="server") for e in cluster.endpoints)
        guarded = type(cluster)(name=cluster.name, host=cluster.host, port=cluster.port, endpoints=endpoints)
        world.start(
            type(base)(
                tables=base.tables,
                clusters=(guarded,),
                services=base.services,
                workloads=workloads,
                authz=(only_from("friends"),),
            )
        )


@pytest.fixture
def guarded(world: World) -> Guarded:
    """See `Guarded`."""
    return Guarded(world)


def test_identity_is_the_cgroup_in_the_kernel_and_on_the_slow_path(guarded: Guarded) -> None:
    world = guarded.world
    for cgroup, expected in ((guarded.friend, 200), (guarded.foe, 403)):
        with world.client(cgroup), world.counting() as grown:
            client = world.connect()
            for path in ("/a/x", "/slow/x", "/a/y"):
                assert client.get(path).status == expected, path
        assert grown["forwarded"] + grown["replied"] == 2


def test_a_process_that_changes_cgroup_after_it_connected_is_nobody(guarded: Guarded) -> None:
    world = guarded.world
    with world.client(guarded.friend):
        client = world.connect()
        assert client.get("/a/x").status == 200
        with world.counting() as grown:
            (guarded.foe.path / "cgroup.procs").write_text(str(os.getpid()))
            assert client.get("/a/moved").status == 403
    assert grown["identity"] == 1


def test_a_socket_that_was_made_by_somebody_else_speaks_for_nobody(guarded: Guarded) -> None:
    world = guarded.world
    for maker, user in ((guarded.friend, guarded.foe), (guarded.foe, guarded.friend)):
        with world.client(maker):
            sock = socket.socket()
        with world.client(user):
            sock.settimeout(5)
            sock.connect((VIP, PORT))
            client = Client(sock)
            assert client.get("/a/x").status == 403
            assert client.get("/slow/x").status == 403
            sock.close()


def test_a_connection_that_is_passed_on_speaks_for_nobody(guarded: Guarded) -> None:
    world = guarded.world
    with world.client(guarded.friend):
        client = world.connect()
        assert client.get("/a/x").status == 200
        (guarded.foe.path / "cgroup.procs").write_text(str(os.getpid()))
        result: list[int] = []
        thread = threading.Thread(target=lambda: result.append(client.get("/a/passed").status))
        thread.start()
        thread.join()
        assert result == [403]
