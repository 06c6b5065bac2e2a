"""The slow path: its proxy on real connections, on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from l7fp.ir.model import Endpoint, Policy
from slowpath.connect import TcpConnector
from slowpath.interfaces import NULL_LEDGER, FlowInfo
from slowpath.proxy import ProxyServer
from slowpath.stats import Stats
from tests.conformance import loopback, wire
from tests.conformance.backend import Backend
from tests.conformance.corpus import Case, Outcome, is_wanted
from tests.conformance.interpreter import choices

T = TypeVar("T")
_TURNS = 8  # of round robin, until the wanted endpoint's must have come
_PARSER_CODES = ("fragment_in_target", "invalid_target")  # it sees before the policy does what can be no path


class _Connector:
    """To the backend, whatever port an endpoint has."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self, endpoint: Endpoint, timeout_ms: int) -> socket.socket:
        return await TcpConnector().connect(Endpoint(address=endpoint.address, port=self._port), timeout_ms)


class _Dice(random.Random):
    """Falls as it is told."""

    face = 0.0

    def random(self) -> float:
        return self.face


class SlowExecutor:
    """One `ProxyServer` for each policy, one connection for each request."""

    name = "slow"

    def __init__(self, cases: Iterable[Case]) -> None:
        self._backend = Backend(loopback.addresses(cases))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._servers: dict[Policy, ProxyServer] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SlowExecutor:
        self._backend.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._listener.close()
        self._backend.__exit__()

    def run(self, case: Case) -> Outcome:
        """Play the case; again for endpoints that round robin has not come to."""
        moved = loopback.move(case.policy)
        draw = choices(case)
        drawn, of = draw.destination or (0, 1)
        for _ in range(_TURNS):
            outcome = self._ask(moved, case, (drawn + 0.5) / of)
            if draw.endpoint is None or is_wanted(case, outcome):
                break
        return outcome

    def _ask(self, moved: loopback.Moved, case: Case, face: float) -> Outcome:
        policy, request = moved.policy, case.request
        flow = FlowInfo(
            port=request.port, source=request.source, destination_ip=request.destination_ip, peer=request.source.ip
        )
        with socket.create_connection(self._listener.getsockname(), 10) as client:
            served, _ = self._listener.accept()

            def serve() -> None:
                server = self._servers.get(policy)
                if server is None:
                    server = self._servers[policy] = ProxyServer(policy, _Connector(self._backend.port))
                    server.rand = _Dice()
                server.rand.face = face  # type: ignore[attr-defined]
                server.stats = Stats()
                server.serve(served, flow, NULL_LEDGER)

            self._call(serve)
            response = wire.ask(client, case.raw)
        stats = self._call(lambda: self._servers[policy].stats)
        (code,) = stats.outcomes
        code = "bad_path" if code in _PARSER_CODES else code
        return replace(moved.outcome(response, next(iter(stats.rules), "")), code=code)

    def _call(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)
