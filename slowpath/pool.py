"""Keep-alive connections to one endpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from l7fp.ir.model import Endpoint
from slowpath.interfaces import Connector, Options
from slowpath.retry import Failure
from slowpath.upstream import UpstreamConnection

_BACKOFF_BASE_S = 0.05
_BACKOFF_CAP_S = 2.0


class Waiter(Protocol):
    """Someone who wants a connection."""

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """It is the waiter's until `finish` and `Pool.release`, or `close`."""

    def upstream_unavailable(self, failure: Failure) -> None:
        """There will be none."""


class Pool:
    """Connections to `endpoint`: the most recently used idle one first, else a new one, within bounds.

    An endpoint whose connects fail is `blocked` for a short time that doubles up to 2 s; being blocked
    only makes others preferred. `active` counts connections in use.
    """

    def __init__(self, endpoint: Endpoint, connector: Connector, options: Options) -> None:
        self.endpoint = endpoint
        self.active = 0
        self.open = 0
        self._connector = connector
        self._options = options
        self._idle: list[UpstreamConnection] = []
        self._waiters: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._blocked_until = 0.0
        self._closed = False
        self._connect_timeout_ms = 0
        self._loop = asyncio.get_running_loop()

    def blocked(self, now: float) -> bool:
        """Whether connects failed a moment ago."""
        return self._blocked_until > now

    def acquire(self, waiter: Waiter, *, connect_timeout_ms: int, fresh: bool = False, careful: bool = False) -> None:
        """Give `waiter` a connection, at once if one is idle. `fresh`: one that has never idled.
        `careful`: look whether the server has closed it, at the price of a system call."""
        if not fresh:
            idle = self._idle
            while idle:
                connection = idle.pop()
                if connection.transport.is_closing() or (careful and connection.stale()):
                    connection.close()
                    continue
                self.active += 1
                waiter.upstream_ready(connection)
                return
        if len(self._waiters) >= self._options.pool_max_waiting:
            waiter.upstream_unavailable(Failure.OVERFLOW)
            return
        self._waiters.append(waiter)
        self._connect_timeout_ms = connect_timeout_ms
        self._refill()

    def cancel(self, waiter: Waiter) -> None:
        """Forget a waiter; fine if it does not wait."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that `finish` called reusable."""
        self.active -= 1
        self._offer(connection)

    def lost(self) -> None:
        """A connection in use was closed instead of released."""
        self.active -= 1

    def _offer(self, connection: UpstreamConnection) -> None:
        if self._waiters:
            self.active += 1
            self._waiters.popleft().upstream_ready(connection)
        elif self._closed or len(self._idle) >= self._options.pool_max_idle:
            connection.close()
        else:
            connection.since = self._loop.time()
            self._idle.append(connection)

    def _refill(self) -> None:
        if len(self._tasks) < len(self._waiters) and self.open < self._options.pool_max_connections:
            self.open += 1
            task = self._loop.create_task(self._connect(self._connect_timeout_ms))
            self._tasks.add(task)
            task.add_done_callback(self._connect_over)

    def _connect_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiters and not self._closed:  # they came when this attempt counted still
            self._refill()

    async def _connect(self, timeout_ms: int) -> None:
        try:
            sock = await self._connector.connect(self.endpoint, timeout_ms)
            made = UpstreamConnection(sock, max_head=self._options.max_head, on_lost=self._on_lost)
            transport, _ = await self._loop.create_connection(lambda: made, sock=sock)
        except OSError:
            self.open -= 1
            now = self._loop.time()
            self._failures += 1
            self._blocked_until = now + min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** min(self._failures - 1, 8))
            # What the next connect would find is known: nobody waits for it in vain.
            waiters, self._waiters = self._waiters, deque()
            for waiter in waiters:
                waiter.upstream_unavailable(Failure.CONNECT)
            return
        transport.set_write_buffer_limits(high=self._options.high_water)
        self._failures = 0
        self._blocked_until = 0.0
        self._offer(made)

    def _on_lost(self, connection: UpstreamConnection) -> None:
        self.open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiters:
            self._refill()

    def sweep(self, now: float) -> None:
        """Close what has idled too long."""
        limit = now - self._options.pool_idle_timeout_ms / 1000
        idle = self._idle
        keep = 0
        while keep < len(idle) and idle[keep].since < limit:
            keep += 1
        for connection in idle[:keep]:
            connection.close()
        del idle[:keep]

    def retire(self) -> None:
        """No longer wanted: close what idles. Requests that wait or are under way are served to their end."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def close(self) -> None:
        """The end: those who wait get nothing."""
        self.retire()
        for task in self._tasks:
            task.cancel()
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            waiter.upstream_unavailable(Failure.CONNECT)
