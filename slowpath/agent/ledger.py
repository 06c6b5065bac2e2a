"""The byte account from which the kernel tells that a connection has left the slow path.

BPF adds to `passed` what it sends to the agent. The fast path reopens when `passed == acked`
and the client has read `sent` bytes. So `sent` grows before an answer is written, and `acked`
before its last bytes are: at no time can the client hold a complete answer of ours while the
kernel still believes the request to be in the slow path, or read a fast answer ahead of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slowpath.agent.tables import ConnTable, SlotTable, index

# The kernel releases a slot while the server's send() is still on its way: the bytes of the response
# reach the client's queue a moment later. An answer of ours must not be written before they do.
_SETTLING_S = 0.001
_POLL_S = 0.0005


class IdleWatch:
    """Calls back when kernel transactions end. There is no event for it, so the few that wait are polled."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, busy: Callable[[], bool], callback: Callable[[], None]) -> None:
        """Call `callback` once, soon after `busy()` has become false."""
        self._waiting.append((busy, callback))
        if self._timer is None:
            self._timer = self._loop.call_later(_POLL_S, self._poll)

    def _poll(self) -> None:
        self._timer = None
        still = []
        for busy, callback in self._waiting:
            if busy():
                still.append((busy, callback))
            else:
                self._loop.call_later(_SETTLING_S, callback)
        self._waiting = still
        if still:
            self._timer = self._loop.call_later(_POLL_S, self._poll)

    def close(self) -> None:
        """Forget everybody."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ConnLedger:
    """`slowpath.interfaces.Ledger` of connection `conn_id`: the agent's two counters in `conns`."""

    __slots__ = ("_acked", "_at", "_conn_slot", "_sent", "_slots", "_watch", "conn_id")

    def __init__(self, conns: ConnTable, slots: SlotTable, watch: IdleWatch, conn_id: int) -> None:
        self.conn_id = conn_id
        self._at = index(conn_id)
        self._sent = conns.sent
        self._acked = conns.acked
        self._conn_slot = conns.slot
        self._slots = slots
        self._watch = watch

    def promise(self, n: int) -> None:
        """See `Ledger`."""
        self._sent[self._at] += n

    def settle(self, n: int) -> None:
        """See `Ledger`."""
        self._acked[self._at] += n

    def fast_busy(self) -> bool:
        """See `Ledger`."""
        return self._slots.busy_for(self._conn_slot[self._at], self.conn_id)

    def on_fast_idle(self, callback: Callable[[], None]) -> None:
        """See `Ledger`."""
        self._watch.add(self.fast_busy, callback)
