"""A `ProxyServer` on an event loop of its own thread, and policies for it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TypeVar

import pytest

from l7fp.ir.interp import Source
from l7fp.ir.model import (
    Action,
    AuthzPolicy,
    Cluster,
    Destination,
    Endpoint,
    LoadBalancer,
    Match,
    Policy,
    Route,
    RouteTable,
    Rule,
    VirtualHost,
    Workload,
)
from slowpath.client import ClientConnection
from slowpath.connect import TcpConnector
from slowpath.interfaces import DEFAULT_OPTIONS, NULL_LEDGER, Connector, FlowInfo, Ledger, Options
from slowpath.proxy import ProxyServer
from slowpath.server import listen

PORT = 80
T = TypeVar("T")


def endpoint(port: int, workload: str = "", address: str = "127.0.0.1") -> Endpoint:
    return Endpoint(address=address, port=port, workload=workload)


def cluster(name: str, *ports: int | Endpoint, balance: LoadBalancer = LoadBalancer.ROUND_ROBIN) -> Cluster:
    endpoints = tuple(p if isinstance(p, Endpoint) else endpoint(p) for p in ports)
    return Cluster(
        name=name, host=name, port=PORT, endpoints=endpoints, load_balancer=balance, connect_timeout_ms=2_000
    )


def route(*clusters: str, **edits: Any) -> Route:
    return Route(destinations=tuple(Destination(cluster=c) for c in clusters), **edits)


def rule(action: Action, *matches: Match, name: str = "r") -> Rule:
    return Rule(name=name, action=action, matches=matches)


def policy(
    *clusters: Cluster,
    rules: tuple[Rule, ...] = (),
    workloads: tuple[Workload, ...] = (),
    authz: tuple[AuthzPolicy, ...] = (),
    **more: Any,
) -> Policy:
    """`rules` under the virtual host `*`; without any, everything goes to the first cluster."""
    rules = rules or (rule(route(clusters[0].name)),)
    host = VirtualHost(name="v", domains=("*",), rules=rules)
    tables = (RouteTable(port=PORT, virtual_hosts=(host,)),)
    return Policy(tables=tables, clusters=clusters, workloads=workloads, authz=authz, **more)


def to(port: int, **edits: Any) -> Policy:
    """Everything to one backend."""
    return policy(cluster("c", port), rules=(rule(route("c", **edits)),))


class Proxy:
    """Serves `port`, on uvloop where it is installed. `clients` are the handles, in order of acceptance."""

    def __init__(
        self,
        policy: Policy,
        *,
        loop: str | None = None,
        options: Options = DEFAULT_OPTIONS,
        ledger: Callable[[], Ledger] = lambda: NULL_LEDGER,
        connector: Connector | None = None,
        source: Source | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        if loop == "uvloop":
            pytest.importorskip("uvloop")
        self._policy = policy
        self._kind = loop or ("uvloop" if find_spec("uvloop") else "asyncio")
        self._options = options
        self._ledger = ledger
        self._connector = connector
        self._source = source
        self._listener = listen(address, 0)
        self.port: int = self._listener.getsockname()[1]
        self.clients: list[ClientConnection] = []
        self.ledgers: list[Ledger] = []
        self.server: ProxyServer
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[dict[str, Any]] = []

    def _run(self) -> None:
        if self._kind == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        else:
            factory = asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self._stop = asyncio.Event()
        self.server = ProxyServer(self._policy, self._connector or TcpConnector(), options=self._options)
        self.loop.add_reader(self._listener.fileno(), self._accept)
        self._ready.set()
        await self._stop.wait()
        self.loop.remove_reader(self._listener.fileno())
        await self.server.close()

    def _accept(self) -> None:
        sock, (ip, *_) = self._listener.accept()
        flow = FlowInfo(port=PORT, source=self._source or Source(ip=ip), peer=ip)
        ledger = self._ledger()
        self.ledgers.append(ledger)
        self.clients.append(self.server.serve(sock, flow, ledger))

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the loop and return what it returns."""

        async def work() -> T:
            return function()

        return self.run(work())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stats(self) -> dict[str, Any]:
        return self.call(self.server.stats.snapshot)

    def outcomes(self) -> dict[str, int]:
        return self.stats()["outcomes"]

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._listener.close()
        if error is None and self.errors:
            pytest.fail(f"the loop caught {self.errors}")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(10)
    return one, other


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that is about to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
