"""The proxy: client connections in, policy enforced, upstream connections out."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Coroutine
from typing import Any

from l7fp.ir.model import Endpoint, Policy
from slowpath.client import ClientConnection
from slowpath.deadlines import Deadlines
from slowpath.headers import RequestIds
from slowpath.interfaces import DEFAULT_OPTIONS, Connector, FlowInfo, Ledger, Options
from slowpath.pool import Pool
from slowpath.router import PolicyVersion
from slowpath.stats import Stats

_SWEEP_S = 1.0


class ProxyServer:
    """Serves any number of client connections under one policy at a time.

    Must be made and used on a running event loop's thread. Pools outlive policies.
    """

    def __init__(self, policy: Policy, connector: Connector, *, options: Options = DEFAULT_OPTIONS) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.stats = Stats()
        self.deadlines = Deadlines(self.loop)
        self.request_ids = RequestIds()
        self.rand = random.Random()
        self.draining = False
        self._connector = connector
        self._pools: dict[tuple[str, int], Pool] = {}
        self._clients: set[ClientConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.version = self._version(policy)
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    def _version(self, policy: Policy) -> PolicyVersion:
        return PolicyVersion(policy, pool=self._pool, now=self.loop.time, options=self.options, rand=self.rand)

    def _pool(self, endpoint: Endpoint) -> Pool:
        key = (endpoint.address, endpoint.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(endpoint, self._connector, self.options)
        return pool

    def set_policy(self, policy: Policy) -> None:
        """Requests that begin from now on are under `policy`; those under way end under the old one."""
        self.version = self._version(policy)
        wanted = {(e.address, e.port) for c in policy.clusters for e in c.endpoints}
        for key in [k for k in self._pools if k not in wanted]:
            self._pools.pop(key).retire()

    def serve(self, sock: socket.socket, flow: FlowInfo, ledger: Ledger) -> ClientConnection:
        """Take over an accepted socket. The connection closes it in the end."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = ClientConnection(self, sock, flow, ledger)
        self._clients.add(client)
        self.stats.connections_total += 1
        self.stats.connections_active += 1
        self.spawn(self._open(client))
        return client

    async def _open(self, client: ClientConnection) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: client, client.sock)
        except OSError as error:
            client.sock.close()
            client.connection_lost(error)

    def forget(self, client: ClientConnection) -> None:
        """The connection is closed."""
        if client in self._clients:
            self._clients.remove(client)
            self.stats.connections_active -= 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, keeping hold of it."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sweep(self) -> None:
        now = self.loop.time()
        for client in list(self._clients):
            client.sweep(now)
        for pool in self._pools.values():
            pool.sweep(now)
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    async def close(self, *, drain_s: float = 0.0) -> None:
        """Let requests under way end for up to `drain_s` seconds, then cut what is left."""
        self.draining = True
        self._sweeper.cancel()
        for client in list(self._clients):
            client.close()
        end = self.loop.time() + drain_s
        while self._clients and self.loop.time() < end:
            await asyncio.sleep(0.01)
        for client in list(self._clients):
            client.abort()
        for pool in self._pools.values():
            pool.close()
        while self._clients and self.loop.time() < end + 1:
            await asyncio.sleep(0)
