"""Client connections in the agent's hands, and the life of their ids.

An id may serve another connection only when the agent has closed A1 *and* BPF has seen C reach
TCP_CLOSE; until then it is a zombie. The upper half of an id counts its uses, so that what is
left of an old connection never matches a new one. Id 0 stands for "no id left": the proxy alone
serves such a connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from l7fp import abi
from slowpath.agent.flows import Attribution
from slowpath.agent.kernel import Kernel
from slowpath.agent.ledger import ConnLedger, IdleWatch
from slowpath.agent.tables import index
from slowpath.interfaces import NULL_LEDGER, ClientHandle, FlowInfo, Ledger

Serve = Callable[[socket.socket, FlowInfo, Ledger], ClientHandle]


@dataclass(slots=True)
class ConnectionCounters:
    """Since the agent started."""

    accepted: int = 0
    unattributed: int = 0
    stale: int = 0  # accepted after the client had gone and its id was taken over
    aborted: int = 0


def next_use(conn_id: int) -> int:
    """The id under which the same record serves its next connection. Uses count from 1: no id is 0."""
    return (conn_id & 0xFFFF) | ((conn_id >> 16) % 0xFFFF + 1) << 16


class Connections:
    """All client connections. `serve` hands one to the proxy; `on_gone` hears that C of a busy connection has gone."""

    def __init__(
        self, kernel: Kernel, attribution: Attribution, watch: IdleWatch, serve: Serve, on_gone: Callable[[int], None]
    ) -> None:
        self.counters = ConnectionCounters()
        self.live: dict[int, ClientHandle] = {}
        self._kernel = kernel
        self._attribution = attribution
        self._watch = watch
        self._serve = serve
        self._on_gone = on_gone
        self._anonymous: set[ClientHandle] = set()
        self._half_closed: set[int] = set()
        self._opening: set[int] = set()
        self._awaited: dict[int, list[Callable[[ClientHandle | None], None]]] = {}
        self._zombies: set[int] = set()
        self._suspects: dict[int, int] = {}  # index -> id that nobody seems to have
        self._given_back: dict[int, int] = {}  # index -> id that went back to the queue

    # -- accepting

    def accept(self, listener: socket.socket, most: int = 256) -> None:
        """Take over at most `most` waiting connections of `listener`."""
        for _ in range(most):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # it went away while it waited; or no descriptors left, and the rest waits too
                return
            sock.setblocking(False)
            self.admit(sock)

    def admit(self, sock: socket.socket) -> None:
        """Hand one accepted connection to the proxy, or close it if BPF did not bring it here."""
        flow = self._attribution.flow(self._kernel.sock_state(sock.fileno()))
        if flow is None:
            self.counters.unattributed += 1
            sock.close()
            return
        conn_id = flow.conn_id
        if conn_id and self._kernel.conns.id[index(conn_id)] != conn_id:
            self.counters.stale += 1
            sock.close()
            return
        self.counters.accepted += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not conn_id:
            client = self._serve(sock, flow, NULL_LEDGER)
            self._anonymous.add(client)
            client.on_closed = lambda: self._anonymous.discard(client)
            return
        client = self._serve(sock, flow, ConnLedger(self._kernel.conns, self._kernel.slots, self._watch, conn_id))
        self._opening.add(conn_id)
        flags, at = self._kernel.conns.flags, index(conn_id)
        client.conflicted = lambda: bool(flags[at] & abi.ConnFlag.IDENTITY_CONFLICT)
        client.on_open = lambda: self._opened(conn_id, client)
        client.on_eof = lambda: self._eof(conn_id)
        client.on_closed = lambda: self._closed(conn_id)

    def _opened(self, conn_id: int, client: ClientHandle) -> None:
        self._opening.discard(conn_id)
        self.live[conn_id] = client
        for callback in self._awaited.pop(conn_id, ()):
            callback(client)

    def when_open(self, conn_id: int, callback: Callable[[ClientHandle | None], None]) -> None:
        """Call back with the connection, or with None if it has gone. The kernel may have served its first request
        before the agent has accepted it: then as soon as it has."""
        client = self.live.get(conn_id)
        if client is not None or self._kernel.conns.closed(conn_id) or conn_id in self._zombies:
            callback(client)
        else:
            self._awaited.setdefault(conn_id, []).append(callback)

    # -- the end of a connection

    def busy_slot(self, conn_id: int) -> int | None:
        """The slot that carries a transaction of the connection, if any."""
        slot = self._kernel.conns.slot[index(conn_id)]
        return slot if self._kernel.slots.busy_for(slot, conn_id) else None

    def _eof(self, conn_id: int) -> None:
        # C may have closed, or only its sending half: then its transaction must finish
        if self.busy_slot(conn_id) is not None:
            self._half_closed.add(conn_id)

    def _closed(self, conn_id: int) -> None:
        self.live.pop(conn_id, None)
        self._opening.discard(conn_id)
        self._half_closed.discard(conn_id)
        for callback in self._awaited.pop(conn_id, ()):
            callback(None)
        if self.busy_slot(conn_id) is not None:
            self._on_gone(conn_id)
        self._zombies.add(conn_id)

    def abort(self, conn_id: int) -> None:
        """Reset the client connection: a kernel transaction broke off in the middle."""
        self.when_open(conn_id, self._abort)

    def _abort(self, client: ClientHandle | None) -> None:
        if client is not None:
            self.counters.aborted += 1
            client.abort()

    def tick(self) -> None:
        """Look after half-closed connections, zombies, and connections that left before they were accepted."""
        conns = self._kernel.conns
        for conn_id in [c for c in self._awaited if conns.closed(c)]:
            for callback in self._awaited.pop(conn_id):
                callback(None)
        for conn_id in list(self._half_closed):
            if self.busy_slot(conn_id) is None:
                self._half_closed.discard(conn_id)
            elif conns.closed(conn_id):
                self._half_closed.discard(conn_id)
                self._on_gone(conn_id)
                self.abort(conn_id)
        for conn_id in [z for z in self._zombies if conns.closed(z)]:
            self._zombies.discard(conn_id)
            self._give_back(conn_id)

    def check_flags(self) -> None:
        """Abort what BPF could not deliver, in case the ring was too full to say so."""
        flags = self._kernel.conns.flags
        for conn_id in [c for c in self.live if flags[index(c)] & abi.ConnFlag.RESET]:
            self.abort(conn_id)

    # -- ids

    def _give_back(self, conn_id: int) -> None:
        if self._kernel.conns.id[index(conn_id)] == conn_id and self._kernel.conn_id_push(next_use(conn_id)):
            self._given_back[index(conn_id)] = conn_id

    def reclaim(self) -> None:
        """Give back ids of connections that closed before the agent could accept them. Call it every few seconds:
        an id is reclaimed the second time it is found so."""
        known = self.live.keys() | self._zombies | self._opening
        ids, flags = self._kernel.conns.id.tolist(), self._kernel.conns.flags.tolist()
        suspects = {
            at: conn_id
            for at, conn_id in enumerate(ids)
            if conn_id
            and flags[at] & abi.ConnFlag.CLOSED
            and conn_id not in known
            and self._given_back.get(at) != conn_id
        }
        for at, conn_id in suspects.items():
            if self._suspects.get(at) == conn_id:
                self._give_back(conn_id)
        self._suspects = {at: c for at, c in suspects.items() if self._suspects.get(at) != c}

    def recover(self) -> None:
        """Sort the ids out after an agent that did not stop in order: its A1s are closed, its books are lost."""
        if not any(self._kernel.conns.id.tolist()):
            return  # no connection ever was: the loader's ids are all there
        free = []
        while (conn_id := self._kernel.conn_id_pop()) is not None:
            free.append(conn_id)
        taken = {index(c) for c in free}
        for at, conn_id in enumerate(self._kernel.conns.id.tolist()):
            if at not in taken:
                if conn_id:
                    self._zombies.add(conn_id)
                else:
                    free.append(next_use(at))
        for conn_id in free:
            self._given_back[index(conn_id)] = self._kernel.conns.id[index(conn_id)]
            self._kernel.conn_id_push(conn_id)

    # -- the end

    async def drain(self, timeout: float) -> int:
        """Let every connection finish what is under way and close; those left after `timeout` seconds are
        reset, and counted in the result."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        asked: set[ClientHandle] = set()
        while (clients := [*self.live.items(), *((0, c) for c in self._anonymous)]) and loop.time() < deadline:
            for conn_id, client in clients:
                if client not in asked and not (conn_id and self.busy_slot(conn_id) is not None):
                    asked.add(client)
                    client.close()
            await asyncio.sleep(0.005)
        left = [*self.live.values(), *self._anonymous]
        for client in left:
            client.abort()
        return len(left)
