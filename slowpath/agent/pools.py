"""The pool of one local endpoint: upstream connections (A2) made ahead, idle ones offered to the kernel.

A slot is offered only when BPF reports the server's side of the connection ready, so no request
can overtake the set-up. The kernel takes slots off the pool and puts them back by itself; the
agent makes more when it finds the pool empty, fewer when they are not used, and new ones for
those that died.

Every offered slot has one token, its id: in the pool, or with the kernel while a transaction is
under way. There must never be two, for the kernel writes to a slot as soon as it holds its token.
So the agent puts back only tokens that it took out itself, and an id rests for a while, marked
dead, before it is used again. Ids stay with their endpoint.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from l7fp import abi
from slowpath.agent.connector import connect_upstream
from slowpath.agent.kernel import Kernel
from slowpath.agent.namespaces import Namespace, NamespaceTable

REST_S = 1.0  # how long a slot id is out of use
_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_COMPLETE = abi.SlotFlag.REQUEST_DONE | abi.SlotFlag.RESPONSE_DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Sizes are connections per endpoint, times are seconds."""

    minimum: int = 8
    maximum: int = 1024
    opening: int = 64  # at a time
    connect_timeout: float = 1.0
    ready_timeout: float = 1.0
    backoff_first: float = 0.02
    backoff_last: float = 0.5
    unmanaged_retry: float = 5.0
    shrink_after: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum <= abi.MAX_POOL:
            raise ValueError(f"pool sizes must hold 1 <= minimum <= maximum <= {abi.MAX_POOL}")


@dataclass(eq=False, slots=True)
class Upstream:
    """An offered slot: its socket A2 and the pool it is of.

    `adopted` while the proxy reads from it. `killed` is the slot's state when the agent ended it.
    """

    slot: int
    sock: socket.socket
    pool: Pool
    adopted: bool = False
    killed: int | None = None


@dataclass(eq=False, slots=True)
class Rules:
    """What the pools of one agent have in common."""

    kernel: Kernel
    namespaces: NamespaceTable
    loop: asyncio.AbstractEventLoop
    on_readable: Callable[[Upstream], None]
    new_slot: Callable[[], int | None]
    options: PoolOptions = field(default_factory=PoolOptions)
    clients: Callable[[], int] = lambda: 0
    """Client connections open now: no more slots than that can ever be wanted at a time."""


class Pool:
    """Connections to (`address`, `port`). `tick` and `scan` drive it; everything runs in the loop's thread."""

    def __init__(self, rules: Rules, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.id = rules.kernel.endpoint_id(address, port)
        self.live: dict[int, Upstream] = {}
        self.target = rules.options.minimum
        self.failure = ""  # the last one, for `status`; empty since the last success
        self._rules = rules
        self._namespace: Namespace | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._resting: deque[tuple[float, int]] = deque()  # (since when, slot id)
        self._in_hand: set[int] = set()  # tokens that could not be pushed
        self._suspects: dict[int, tuple[float, int]] = {}  # idle slot without a token -> (since when, requests)
        self._rebuild_timer: asyncio.TimerHandle | None = None
        self._empty = rules.kernel.endpoints.empty[self.id]
        self._backoff = 0.0
        self._not_before = 0.0
        self._peak = 0
        self._peak_since = rules.loop.time()
        self._closing = False
        self._set_usable(False)

    @property
    def local(self) -> bool:
        """Whether the endpoint lives on this node."""
        return self._namespace is not None

    def busy(self) -> int:
        """Transactions under way, about."""
        state = self._rules.kernel.slots.state
        return sum(1 for slot in self.live if state[slot])

    # -- growing and shrinking

    def scan(self) -> None:
        """Find out where the endpoint lives."""
        found = self._rules.namespaces.owner(self.address)
        if found is self._namespace:
            return
        self._namespace = found
        self._backoff = self._not_before = 0.0
        if found is None:
            for upstream in list(self.live.values()):
                self.retire(upstream)
            self._set_usable(False)

    def tick(self) -> None:
        """Compare what there is with what the kernel asked for since the last tick, and mend the difference."""
        if self._namespace is None or self._closing:
            return
        rules, now = self._rules, self._rules.loop.time()
        for slot, upstream in list(self.live.items()):
            if upstream.killed is None and rules.kernel.slots.state[slot] & abi.SlotFlag.DEAD:
                self.retire(upstream)  # the programs gave it up
        empty = rules.kernel.endpoints.empty[self.id]
        busy = self.busy()
        self._peak = max(self._peak, busy)
        # an empty pool that is still being filled says nothing
        if len(self.live) >= self.target and (empty != self._empty or busy * 4 > self.target * 3):
            # at once as large as what was missed, so that a crowd of new clients is not served slowly for long
            wanted = max(self.target * 2, min(empty - self._empty, rules.clients()))
            self.target = min(wanted, rules.options.maximum)
            self._peak_since, self._peak = now, busy
        elif now - self._peak_since > rules.options.shrink_after:
            self.target = max(rules.options.minimum, min(self.target, 2 * self._peak))
            self._peak_since, self._peak = now, busy
        self._empty = empty
        if self._in_hand or len(self.live) > self.target:
            self.rebuild()
        rules.kernel.endpoints.idle[self.id] = max(0, len(self.live) - busy)
        self._fill(now)

    def _fill(self, now: float) -> None:
        if self._closing or now < self._not_before:
            return
        # after a failure one attempt tells as much as many
        most = 1 if self._backoff else self._rules.options.opening
        for _ in range(min(self.target - len(self.live), most) - len(self._opening)):
            task = self._rules.loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        rules, namespace = self._rules, self._namespace
        slot = self._new_slot()
        if slot is None or namespace is None:
            return
        table = rules.kernel.slots
        table.clear(slot)
        table.state[slot] = abi.SlotFlag.DEAD  # until it is offered
        table.endpoint[slot] = self.id
        table.expect[slot] = 1
        try:
            sock = await connect_upstream(
                rules.namespaces,
                namespace,
                (self.address, self.port),
                rules.options.connect_timeout,
                lambda fd: rules.kernel.tag_upstream(fd, slot),
            )
        except OSError as error:
            self._rest(slot)
            reason = os.strerror(error.errno) if error.errno else str(error) or "no answer"
            self._failed(reason, min(self._backoff * 2, rules.options.backoff_last))
            return
        except asyncio.CancelledError:
            self._rest(slot)
            raise
        upstream = Upstream(slot, sock, self)
        try:
            ready = await self._ready(slot)
        except asyncio.CancelledError:
            ready = False
        table.expect[slot] = 0  # no other connection may become this slot's
        if not ready or self._closing:
            self._discard(upstream, reset=True)
            if not self._closing:
                self._failed("the server is outside the managed cgroup", rules.options.unmanaged_retry)
            return
        self._offer(upstream)
        if self._backoff:
            self._backoff = self._not_before = 0.0
            rules.loop.call_later(0.001, self.tick)  # the rest, when this attempt counts no longer

    def _new_slot(self) -> int | None:
        if self._resting and self._resting[0][0] + REST_S < self._rules.loop.time():
            return self._resting.popleft()[1]
        return self._rules.new_slot()

    def _rest(self, slot: int) -> None:
        self._rules.kernel.slots.expect[slot] = 0
        self._resting.append((self._rules.loop.time(), slot))

    async def _ready(self, slot: int) -> bool:
        """Wait until BPF has the server's socket. Nearly always it has before connect() returns."""
        ready = self._rules.kernel.slots.ready
        deadline = self._rules.loop.time() + self._rules.options.ready_timeout
        pause = 0.0
        while not ready[slot]:
            if self._rules.loop.time() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(0.005, pause + 0.0002)
        return True

    def _offer(self, upstream: Upstream) -> None:
        rules = self._rules
        self.live[upstream.slot] = upstream
        rules.loop.add_reader(upstream.sock.fileno(), rules.on_readable, upstream)
        if rules.kernel.ctl(abi.CtlOp.OFFER, upstream.slot)[0]:
            self._in_hand.add(upstream.slot)
        self.failure = ""
        self._set_usable(True)

    def _failed(self, reason: str, wait: float) -> None:
        self.failure = reason
        if not self.live:
            self._set_usable(False)
        now = self._rules.loop.time()
        if now < self._not_before:  # one of several that began together
            return
        self._backoff = max(wait, self._rules.options.backoff_first)
        self._not_before = now + self._backoff
        if not self._closing:
            self._rules.loop.call_at(self._not_before + 0.001, self.tick)

    def _set_usable(self, usable: bool) -> None:
        self._rules.kernel.endpoints.usable[self.id] = int(usable)

    def lend(self, upstream: Upstream) -> None:
        """The proxy reads from the connection from now on."""
        upstream.adopted = True
        self._rules.loop.remove_reader(upstream.sock.fileno())

    def take_back(self, upstream: Upstream) -> None:
        """The proxy is done with the connection."""
        upstream.adopted = False
        self._rules.loop.add_reader(upstream.sock.fileno(), self._rules.on_readable, upstream)

    # -- the end of a slot

    def kill(self, upstream: Upstream) -> int:
        """End the slot and return its state before: no request is sent there any more, what S still sends is
        swallowed, and its client, if a transaction is under way, stays on the slow path until `retire`."""
        if upstream.killed is None:
            upstream.killed = self._rules.kernel.ctl(abi.CtlOp.KILL, upstream.slot)[1]
            if not upstream.adopted:
                self._rules.loop.remove_reader(upstream.sock.fileno())
        return upstream.killed

    def retire(self, upstream: Upstream) -> None:
        """Take the slot out of use for good and close its connection. What it owed to a client is settled.

        While the proxy reads from it the slot is only ended; whoever adopted it retires it again.
        """
        state = self.kill(upstream)
        if upstream.adopted or self.live.pop(upstream.slot, None) is None:
            return
        self._rules.loop.remove_reader(upstream.sock.fileno())
        self._discard(upstream, reset=bool(state & abi.SlotFlag.BUSY and ~state & _COMPLETE))
        if not state & abi.SlotFlag.BUSY:  # it was idle: its token is in the pool, and in the way
            self._rebuild_soon()
        if not self.live:
            self._set_usable(False)
        self._rules.loop.call_soon(self.tick)

    def _discard(self, upstream: Upstream, *, reset: bool) -> None:
        try:
            if reset:  # so that S stops working on a request that nobody waits for
                upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        except OSError:
            pass  # it has gone on its own
        upstream.sock.close()
        # nobody's slot any more, so that its last client is no longer taken for busy
        self._rules.kernel.slots.state[upstream.slot] = abi.SlotFlag.DEAD
        self._in_hand.discard(upstream.slot)
        self._rest(upstream.slot)

    # -- tokens

    def _rebuild_soon(self) -> None:
        if self._rebuild_timer is None:
            self._rebuild_timer = self._rules.loop.call_later(0.002, self.rebuild)

    def rebuild(self) -> None:
        """Take all tokens out of the pool, put those of live slots back, most recently used on top, and close
        what is more than enough. Requests that find the pool empty meanwhile take the slow path."""
        if self._rebuild_timer is not None:
            self._rebuild_timer.cancel()
            self._rebuild_timer = None
        kernel = self._rules.kernel
        tokens = dict.fromkeys(self._in_hand)
        self._in_hand.clear()
        for _ in range(2 * abi.MAX_POOL):
            slot = kernel.pool_pop(self.id)
            if slot is None:
                break
            tokens.setdefault(slot)
        surplus = len(self.live) - self.target
        self._look_for_lost(tokens)
        for slot in reversed(tokens):
            if slot not in self.live:
                continue
            if surplus > 0:
                surplus -= 1
                upstream = self.live[slot]
                self.kill(upstream)
                del self.live[slot]
                self._discard(upstream, reset=False)
            elif not kernel.pool_push(self.id, slot):
                self._in_hand.add(slot)
        self._empty = kernel.endpoints.empty[self.id]  # what found it empty just now asked for nothing more

    def _look_for_lost(self, tokens: dict[int, None]) -> None:
        """A slot that stays idle without a token lost it: the kernel's push failed. Take it in hand."""
        now, slots = self._rules.loop.time(), self._rules.kernel.slots
        suspects = {}
        for slot in self.live:
            if slot not in tokens and not slots.state[slot]:
                since, requests = self._suspects.get(slot, (now, slots.requests[slot]))
                if requests != slots.requests[slot]:
                    since, requests = now, slots.requests[slot]
                if now - since > REST_S:
                    tokens[slot] = None
                else:
                    suspects[slot] = since, requests
        self._suspects = suspects

    # -- the end

    def withhold(self) -> None:
        """Stop taking new requests: nothing more is offered, what is under way goes on."""
        self._closing = True
        self._set_usable(False)
        for task in self._opening:
            task.cancel()

    def resume(self) -> None:
        """The opposite of `withhold`."""
        self._closing = False
        self._set_usable(bool(self.live))

    def close(self) -> None:
        """Drop all connections."""
        self.withhold()
        for upstream in list(self.live.values()):
            upstream.adopted = False
            self.retire(upstream)
        if self._rebuild_timer is not None:
            self._rebuild_timer.cancel()
        while self._rules.kernel.pool_pop(self.id) is not None:
            pass
