"""A node in small for kernel tests: an agent, servers and clients, each in a cgroup of its own.

The test process itself plays the client: inside `World.client()` the sockets it makes are captured.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from l7fp.codegen import cc, plan, render
from l7fp.ir.model import (
    Cluster,
    Condition,
    Destination,
    DirectResponse,
    Endpoint,
    Field,
    FieldKind,
    HeaderEdits,
    Match,
    PathRewrite,
    Policy,
    RewriteKind,
    Route,
    RouteTable,
    Rule,
    Service,
    StringKind,
    StringMatch,
    VirtualHost,
    Workload,
)
from l7fp.ir.passes.classify import classify
from l7fp.loader import mounts
from l7fp.loader.desired import Desired, canonical
from slowpath.agent.admin import ask
from slowpath.agent.deployment import Deployment

# loopback: what is not captured goes nowhere
VIP, VIP6, PORT = "127.99.250.1", "::1", 80
_REPOSITORY = Path(__file__).resolve().parents[2]
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


class CgroupLike(Protocol):
    """See `conftest.Cgroup`."""

    path: Path

    def child(self, name: str) -> Any: ...

    def popen(self, argv: Sequence[str], *, netns_fd: int | None = None, **options: Any) -> Any: ...


# --- policies ---------------------------------------------------------------------------------------------------------


def path_is(kind: StringKind, value: str) -> tuple[Match, ...]:
    """A match on the path alone."""
    condition = Condition(field=Field(FieldKind.PATH), any_of=(StringMatch(kind, value),))
    return (Match(conditions=(condition,)),)


def rule(name: str, prefix: str, **route: Any) -> Rule:
    """Paths that begin with `prefix` go to the cluster `web`."""
    matches = path_is(StringKind.PREFIX, prefix) if prefix else ()
    return Rule(name=name, matches=matches, action=Route(destinations=(Destination(cluster="web"),), **route))


RULES = (
    Rule(
        name="deny",
        matches=path_is(StringKind.PREFIX, "/deny"),
        action=DirectResponse(status=403, body="denied"),
    ),
    Rule(
        name="slow",
        matches=path_is(StringKind.REGEX, "/slow/.*"),
        action=Route(destinations=(Destination(cluster="web"),)),
    ),
    rule("timeout", "/timeout", timeout_ms=200),
    rule(
        "edit",
        "/edit",
        request_headers=HeaderEdits(set=(("x-request-edit", "1"),)),
        response_headers=HeaderEdits(set=(("x-response-edit", "1"),), remove=("server",)),
    ),
    rule("rewrite", "/rewrite", path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/rewritten")),
    rule("all", ""),
)


def policy(
    endpoints: Sequence[tuple[str, int]],
    *,
    rules: Sequence[Rule] = RULES,
    workloads: Sequence[Workload] = (),
    **more: Any,
) -> Policy:
    """One service on VIP and VIP6, served by `endpoints`."""
    cluster = Cluster(
        name="web", host="web", port=PORT, endpoints=tuple(Endpoint(address=a, port=p) for a, p in endpoints)
    )
    host = VirtualHost(name="web", domains=("*",), rules=tuple(rules), addresses=(VIP, VIP6))
    return Policy(
        tables=(RouteTable(port=PORT, virtual_hosts=(host,)),),
        clusters=(cluster,),
        services=(Service(host="web", namespace="default", addresses=(VIP, VIP6), ports=(PORT,)),),
        workloads=tuple(workloads),
        **more,
    )


@cache
def _base() -> bytes:
    return cc.compile_bpf(render.render_base(), "base.bpf.c")


def deployment(policy: Policy) -> Deployment:
    """The policy compiled, as the agent takes it."""
    made = plan.build(policy, classify(policy))
    endpoints = tuple(canonical(e.address, e.port) for e in made.endpoints)
    services = {canonical(a, p) for s in policy.services for a in s.addresses for p in s.ports}
    desired = Desired(
        base_object=_base(),
        policy_object=cc.compile_bpf(render.render(made), "policy.bpf.c"),
        tables=made.tables,
        ports=made.ports,
        source_atoms=made.source_atoms,
        source_ip_atoms=made.source_ip_atoms,
        endpoints=endpoints,
        capture=frozenset(a for a in services | set(endpoints) if a),
        protect=frozenset(a for a in endpoints if a),
        workloads=policy.workloads,
    )
    return Deployment(
        policy=policy,
        desired=desired,
        rules=made.rule_names,
        destinations=tuple((d.rule, d.position) for d in made.dests),
    )


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Value of a header, None if absent."""
        for line in self.head.split(b"\r\n"):
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode()
        return None

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


class Client:
    """A connection on which responses are read one by one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        sock.settimeout(5)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str, *headers: str, method: str = "GET") -> Response:
        self.send(request(path, *headers, method=method))
        return self.read(head_only=method == "HEAD")

    def post(self, path: str, body: bytes) -> Response:
        self.send(request(path, f"Content-Length: {len(body)}", method="POST") + body)
        return self.read()

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def read(self, *, head_only: bool = False) -> Response:
        """The next final response."""
        while True:
            while not (found := _HEAD.match(self.buffer)):
                assert not self.buffer or self.buffer.startswith(b"HTTP/1."[: len(self.buffer)]), self.buffer[:200]
                self._more()
            self.buffer = self.buffer[found.end() :]
            response = Response(int(found[1]), found[2], b"")
            if response.status >= 200:
                break
        if head_only:
            return response
        if response.header("transfer-encoding") == "chunked":
            return Response(response.status, response.head, self._chunks())
        length = response.header("content-length")
        assert length is not None, response
        return Response(response.status, response.head, self._exactly(int(length)))

    def _exactly(self, n: int) -> bytes:
        pieces, have = [self.buffer], len(self.buffer)
        while have < n:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError(f"{have} of {n} bytes")
            pieces.append(data)
            have += len(data)
        whole = b"".join(pieces)
        self.buffer = whole[n:]
        return whole[:n]

    def _chunks(self) -> bytes:
        out = []
        while True:
            while b"\r\n" not in self.buffer:
                self._more()
            size, _, self.buffer = self.buffer.partition(b"\r\n")
            piece = self._exactly(int(size, 16) + 2)
            if len(piece) == 2:
                return b"".join(out)
            out.append(piece[:-2])

    def silent(self, seconds: float = 0.1) -> bool:
        """Nothing comes for a while, not even the end."""
        if self.buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            self._more()
        except TimeoutError:
            return True
        except EOFError:
            return False
        finally:
            self.sock.settimeout(5)
        return False

    def ended(self) -> bool:
        """The other side has closed or reset the connection."""
        try:
            return not self.sock.recv(1 << 20)
        except ConnectionError:
            return True


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: web", *headers, "", ""]
    return "\r\n".join(lines).encode()


# --- the node ---------------------------------------------------------------------------------------------------------


def free_port(address: str = "127.0.0.1") -> int:
    """A port nobody listens on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


class World:
    """Made by the fixture `world`; `serve`, then `start`, then act inside `client`."""

    def __init__(self, cgroup: CgroupLike, bpffs: str, instance: str, folder: Path) -> None:
        self.cgroup, self.bpffs, self.instance, self.folder = cgroup, bpffs, instance, folder
        self.clients, self.servers, self.agents = (cgroup.child(n) for n in ("client", "server", "agent"))
        self.endpoints: list[tuple[str, int]] = []
        self.processes: list[subprocess.Popen[Any]] = []
        self.agent: subprocess.Popen[Any] | None = None
        self._sockets: list[socket.socket] = []
        self._deployments = 0

    # servers

    def serve(
        self,
        name: str = "s1",
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        netns_fd: int | None = None,
        cgroup: CgroupLike | None = None,
    ) -> subprocess.Popen[Any]:
        """A behaving server; a new endpoint unless `port` is given."""
        if not port:
            port = free_port() if netns_fd is None else 8000 + len(self.endpoints)
            self.endpoints.append((address, port))
        argv = [sys.executable, "-S", str(Path(__file__).with_name("behaving_server.py")), name, address, str(port)]
        process = (cgroup or self.servers).popen(argv, netns_fd=netns_fd, stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        return process

    # the agent

    def write(self, made: Deployment) -> Path:
        """A file for the agent."""
        self._deployments += 1
        path = self.folder / f"deployment-{self._deployments}"
        path.write_bytes(pickle.dumps(made))
        return path

    def start(self, with_policy: Policy | None = None, *, protect: bool = False, usable: int | None = None) -> None:
        """Compile, load and serve; back when that many endpoints (all) are usable."""
        path = self.write(deployment(with_policy or policy(self.endpoints)))
        argv = [sys.executable, "-m", "tests.kernel.agent_process"]
        argv += [self.instance, self.bpffs, str(self.cgroup.path), str(int(protect)), str(path)]
        environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
        self.agent = self.agents.popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY, env=environment
        )
        self.processes.append(self.agent)
        assert self.agent.stdout
        assert self.agent.stdout.readline() == b"ready\n"
        self.wait_usable(usable)

    def reload(self, path: Path) -> int:
        """Swap the policy; the new version."""
        assert self.agent
        assert self.agent.stdin
        assert self.agent.stdout
        self.agent.stdin.write(f"{path}\n".encode())
        self.agent.stdin.flush()
        return int(self.agent.stdout.readline())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the agent; its exit status."""
        assert self.agent
        self.agent.send_signal(number)
        return int(self.agent.wait(20))

    def status(self) -> dict[str, Any]:
        """What the agent says."""
        return ask(self.instance, {"op": "status"})

    def stat(self, name: str) -> int:
        """A counter of the programs."""
        return int(self.status()["stats"].get(name, 0))

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Counters of the programs, by how much they grow in the block: filled in at its end."""
        grown: Counter[str] = Counter()
        before = self.status()["stats"]
        yield grown
        after = self.status()["stats"]
        grown.update({name: after[name] - before.get(name, 0) for name in after})

    def wait(self, condition: Any, seconds: float = 10.0) -> Any:
        """Until `condition()` holds."""
        until = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < until, self.status() if self.agent and self.agent.poll() is None else "no agent"
            time.sleep(0.01)
        return found

    def wait_usable(self, count: int | None = None) -> None:
        """Until that many endpoints (all) can be used by the kernel."""
        wanted = len(self.endpoints) if count is None else count
        self.wait(lambda: sum(e["usable"] for e in self.status()["endpoints"]) >= wanted)

    # clients

    @contextlib.contextmanager
    def client(self, cgroup: CgroupLike | None = None) -> Iterator[World]:
        """The test process is in the clients' cgroup (or another) meanwhile; its connections are closed then."""
        where = (cgroup or self.clients).path
        home = own_cgroup()
        (where / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield self
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def connect(self, address: str = VIP, port: int = PORT) -> Client:
        """A client connection."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append(sock)
        sock.settimeout(5)
        sock.connect((address, port))
        return Client(sock)

    def close(self) -> None:
        """End everything that was started."""
        if self.agent and self.agent.poll() is None:
            self.agent.terminate()
            try:
                self.agent.wait(15)
            except subprocess.TimeoutExpired:
                self.agent.kill()
        for process in self.processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def own_cgroup() -> Path:
    """This process's cgroup v2 directory."""
    root = mounts.cgroup2()
    assert root is not None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return Path(root, line[3:].lstrip("/"))
    raise AssertionError("no cgroup v2")
