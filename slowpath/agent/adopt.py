"""Kernel transactions that need the agent: responses it adopts, servers that fail, clients that leave, deadlines.

The order of steps is the contract with the programs. First the slot is killed: from then on a
server's late bytes are swallowed, no request is sent there, and the client's next requests wait
in the slow path. Then the client is answered, in accordance with the state the kill found. Then
the slot is retired, which sets the client free.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from l7fp import abi
from l7fp.abi import SlotFlag
from l7fp.ir.model import HeaderEdits
from slowpath.agent.connections import Connections
from slowpath.agent.kernel import Kernel
from slowpath.agent.pools import Upstream
from slowpath.agent.tables import owner
from slowpath.agent.upstreams import Upstreams
from slowpath.interfaces import ClientHandle

_WELL_FORMED = 1  # `slot.relay_done`; 2 is a chunked body that broke its syntax

Edits = Callable[[int, int], tuple[HeaderEdits, ...] | None]
"""(policy version, destination) -> response edits in order of application; None: nobody knows any more."""


@dataclass(slots=True)
class TransactionCounters:
    """Since the agent started."""

    adopted: int = 0
    relayed: int = 0
    upstream_failed: int = 0
    timed_out: int = 0
    broken_off: int = 0
    stray: int = 0


class Transactions:
    """Events on slots. `edits` finds the response edits of a transaction."""

    def __init__(self, kernel: Kernel, edits: Edits) -> None:
        self.counters = TransactionCounters()
        self._kernel = kernel
        self._edits = edits

    def bind(self, connections: Connections, upstreams: Upstreams) -> None:
        """The two sides of every transaction; before any event."""
        self._connections = connections
        self._upstreams = upstreams

    # -- A2 has something to say

    def readable(self, upstream: Upstream) -> None:
        """Bytes or the end of an upstream connection that the proxy does not read from."""
        try:
            data = upstream.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        state = self._kernel.slots.state[upstream.slot]  # read after the bytes: the flag is set before they leave
        if state & SlotFlag.ADOPTED and not state & SlotFlag.DEAD:
            self._adopt(upstream, state)
            return
        if data:
            self.counters.stray += 1
        self._fail(upstream)

    def _fail(self, upstream: Upstream) -> None:
        """The server ended the connection, or broke the protocol on it."""
        state = upstream.pool.kill(upstream)
        conn_id = owner(state)
        waiting = state & SlotFlag.BUSY and not state & (SlotFlag.DEAD | SlotFlag.RESPONSE_DONE)
        if waiting and state & SlotFlag.CLAIMED:
            self._answer(upstream, conn_id, 504, "response_timeout")
        elif waiting and not state & SlotFlag.RESPONSE_STARTED:
            self.counters.upstream_failed += 1
            self._answer(upstream, conn_id, 503, "upstream_reset_before_response_started")
        else:
            if waiting:
                self.counters.broken_off += 1
                self._connections.abort(conn_id)
            # S that answered early and left has given its client what it had: the kernel swallows the rest of its body
            upstream.pool.retire(upstream)

    def _answer(self, upstream: Upstream, conn_id: int, status: int, code: str) -> None:
        def answer(client: ClientHandle | None) -> None:
            if client is not None and not client.reply_now(status, code):
                client.abort()
            upstream.pool.retire(upstream)

        self._connections.when_open(conn_id, answer)

    # -- responses that the kernel declined

    def _adopt(self, upstream: Upstream, state: int) -> None:
        upstream.pool.lend(upstream)
        self._connections.when_open(owner(state), lambda client: self._adopt_for(upstream, client))

    def _adopt_for(self, upstream: Upstream, client: ClientHandle | None) -> None:
        slots, slot = self._kernel.slots, upstream.slot
        if client is None:
            taken = False
        elif slots.resp_mode[slot] == abi.RespMode.ADOPT:
            self.counters.adopted += 1
            taken = self._relay(upstream, client)
        else:
            self.counters.relayed += 1
            taken = client.relay_raw(
                upstream.sock,
                total=lambda: slots.passed[slot] if slots.relay_done[slot] else None,
                on_done=lambda ok: self._relayed(upstream, client, ok),
            )
        if not taken:
            self._done(upstream, False)

    def _relayed(self, upstream: Upstream, client: ClientHandle, ok: bool) -> None:
        if ok and self._kernel.slots.relay_done[upstream.slot] != _WELL_FORMED:
            client.abort()  # the client cannot tell where the response ends
            ok = False
        self._done(upstream, ok)

    def _relay(self, upstream: Upstream, client: ClientHandle) -> bool:
        slots, slot = self._kernel.slots, upstream.slot
        timeout_ms = None
        if slots.timeout_ms[slot]:
            spent_ms = (time.monotonic_ns() - slots.started_ns[slot]) // 1_000_000
            timeout_ms = max(1, slots.timeout_ms[slot] - spent_ms)
        edits = self._edits(slots.version[slot], slots.dest[slot])
        if edits is None:  # an unedited response could show what the policy removes
            client.abort()
            return False
        return client.relay_response(
            upstream.sock,
            is_head=bool(slots.is_head[slot]),
            edits=edits,
            on_done=lambda reusable: self._done(upstream, reusable),
            timeout_ms=timeout_ms,
        )

    def _done(self, upstream: Upstream, reusable: bool) -> None:
        reusable = reusable and not self._kernel.slots.state[upstream.slot] & (SlotFlag.DEAD | SlotFlag.NO_REUSE)
        upstream.pool.take_back(upstream)
        # the slot may be on its way to another client the moment it is released
        if not reusable or self._kernel.ctl(abi.CtlOp.RELEASE, upstream.slot)[0]:
            upstream.pool.retire(upstream)

    # -- deadlines and clients

    def timed_out(self, slot: int, conn_id: int) -> None:
        """The sweep has claimed the slot: the answer is ours."""
        upstream = self._upstreams.find(slot)
        state = self._kernel.slots.state[slot]
        if upstream is None or not state & SlotFlag.CLAIMED or owner(state) != conn_id:
            return
        self.counters.timed_out += 1
        upstream.pool.kill(upstream)
        self._answer(upstream, conn_id, 504, "response_timeout")

    def timed_out_late(self, slot: int, conn_id: int) -> None:
        """Past the deadline in the middle of a response. An adopted one has a deadline of its own in the proxy,
        but one that is copied as it is has not."""
        upstream = self._upstreams.find(slot)
        if upstream is None or not self._kernel.slots.busy_for(slot, conn_id):
            return
        if upstream.adopted and self._kernel.slots.resp_mode[slot] == abi.RespMode.ADOPT:
            return
        self.counters.timed_out += 1
        self._connections.abort(conn_id)
        upstream.pool.retire(upstream)

    def client_gone(self, conn_id: int) -> None:
        """C of a transaction under way has gone: spare the server the rest of it. If S has begun to answer, the kernel
        finds out by itself; and the slot may serve somebody else by now, whom a claim does not touch."""
        slot = self._connections.busy_slot(conn_id)
        upstream = None if slot is None else self._upstreams.find(slot)
        if upstream is not None and self._kernel.ctl(abi.CtlOp.CLAIM, upstream.slot, conn_id)[0] == 0:
            upstream.pool.retire(upstream)
