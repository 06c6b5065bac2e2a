"""Client connections and the life of their ids."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from l7fp.abi import ConnFlag, SlotFlag, SockKind
from slowpath.agent.connections import Connections, next_use
from slowpath.agent.flows import Attribution, ip_words
from slowpath.agent.kernel import SockState
from slowpath.agent.ledger import IdleWatch
from slowpath.interfaces import NULL_LEDGER, FlowInfo, Ledger
from tests.unit.agent.memory import FakeKernel, in_loop


class FakeClient:
    """What the proxy would make of a connection."""

    def __init__(self, sock: socket.socket, flow: FlowInfo, ledger: Ledger) -> None:
        self.sock, self.flow, self.ledger = sock, flow, ledger
        self.conflicted: Callable[[], bool] | None = None
        self.on_open: Callable[[], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self.did: list[str] = []

    def abort(self) -> None:
        self.did.append("abort")
        self._end()

    def close(self) -> None:
        self.did.append("close")
        self._end()

    def _end(self) -> None:
        self.sock.close()
        if self.on_closed:
            self.on_closed()


class Setting:
    """Connections over a fake kernel, with what they told the rest."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.clients: list[FakeClient] = []
        self.gone: list[int] = []
        self.others: list[socket.socket] = []
        watch = IdleWatch(asyncio.get_running_loop())
        self.connections = Connections(self.kernel, Attribution({}), watch, self._serve, self.gone.append)

    def _serve(self, sock: socket.socket, flow: FlowInfo, ledger: Ledger) -> FakeClient:
        self.clients.append(FakeClient(sock, flow, ledger))
        return self.clients[-1]

    def admit(self, conn_id: int, kind: int = SockKind.ACCEPTED, opened: bool = True) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours = TcpLike(fileno=ours.detach())
        self.others.append(theirs)
        self.kernel.sockets[ours.fileno()] = SockState(
            kind=kind, id=conn_id, orig_ip=ip_words("10.0.0.1"), orig_port=80
        )
        if conn_id and not self.kernel.conns.id[conn_id & 0xFFFF]:
            self.kernel.conns.id[conn_id & 0xFFFF] = conn_id
        self.connections.admit(ours)
        if opened and self.clients and (on_open := self.clients[-1].on_open):
            on_open()
        return ours

    def close(self) -> None:
        for sock in [*self.others, *(c.sock for c in self.clients)]:
            sock.close()


class TcpLike(socket.socket):
    """One end of a socket pair that takes TCP options."""

    def setsockopt(self, *args: object) -> None:
        """Ignored."""


@in_loop
async def test_an_accepted_connection_reaches_the_proxy_with_its_account() -> None:
    at = Setting()
    at.admit(5)
    assert at.clients[0].flow.conn_id == 5
    at.clients[0].ledger.promise(10)
    assert at.kernel.conns.sent[5] == 10
    at.close()


@in_loop
async def test_the_proxy_learns_of_an_identity_that_became_ambiguous() -> None:
    at = Setting()
    at.admit(5)
    conflicted = at.clients[0].conflicted
    assert conflicted
    assert not conflicted()
    at.kernel.conns.flags[5] = ConnFlag.IDENTITY_CONFLICT
    assert conflicted()
    at.close()


@in_loop
async def test_a_connection_without_an_id_is_served_without_an_account() -> None:
    at = Setting()
    at.admit(0)
    assert at.clients[0].ledger is NULL_LEDGER
    at.clients[0].abort()
    assert not at.kernel.ids
    at.close()


@in_loop
async def test_what_capture_did_not_bring_is_closed_and_counted() -> None:
    at = Setting()
    sock = at.admit(5, kind=SockKind.NONE)
    assert sock.fileno() == -1
    assert not at.clients
    assert at.connections.counters.unattributed == 1
    at.close()


@in_loop
async def test_a_connection_whose_record_serves_another_one_by_now_is_closed() -> None:
    at = Setting()
    at.kernel.conns.id[5] = next_use(5)
    assert at.admit(5).fileno() == -1
    assert at.connections.counters.stale == 1
    at.close()


@in_loop
async def test_an_id_goes_back_only_when_both_sides_have_closed() -> None:
    at = Setting()
    at.admit(5)
    at.clients[0].abort()
    at.connections.tick()
    assert not at.kernel.ids
    at.kernel.conns.flags[5] = ConnFlag.CLOSED
    at.connections.tick()
    at.connections.tick()
    assert list(at.kernel.ids) == [5 | 1 << 16]
    at.close()


@in_loop
async def test_an_open_connection_keeps_its_id_though_its_client_has_gone() -> None:
    at = Setting()
    at.admit(5)
    at.kernel.conns.flags[5] = ConnFlag.CLOSED
    at.connections.tick()
    assert not at.kernel.ids
    at.close()


def test_the_count_of_uses_wraps_and_leaves_the_place_alone() -> None:
    assert next_use(5) == 5 | 1 << 16
    assert next_use(5 | 0xFFFF << 16) == 5 | 1 << 16


@in_loop
async def test_whoever_needs_a_client_that_is_not_accepted_yet_gets_it_then() -> None:
    at = Setting()
    got: list[object] = []
    at.kernel.conns.id[5] = 5
    at.connections.when_open(5, got.append)
    at.admit(5, opened=False)
    assert got == []
    on_open = at.clients[0].on_open
    assert on_open
    on_open()
    at.connections.when_open(5, got.append)
    assert got == [at.clients[0], at.clients[0]]
    at.close()


@in_loop
async def test_whoever_needs_a_client_that_has_gone_hears_so() -> None:
    at = Setting()
    got: list[object] = []
    at.connections.when_open(5, got.append)  # of another use of the record
    at.kernel.conns.id[6] = 6
    at.connections.when_open(6, got.append)
    assert got == [None]
    at.kernel.conns.flags[6] = ConnFlag.CLOSED  # before it was accepted
    at.connections.tick()
    at.admit(7, opened=False)
    at.connections.when_open(7, got.append)
    at.clients[0].abort()
    assert got == [None, None, None]
    at.close()


def busy(kernel: FakeKernel, conn_id: int, slot: int) -> None:
    kernel.conns.slot[conn_id & 0xFFFF] = slot
    kernel.slots.state[slot] = SlotFlag.BUSY | conn_id


@in_loop
async def test_a_half_closed_client_gets_its_answer() -> None:
    at = Setting()
    at.admit(5)
    busy(at.kernel, 5, 3)
    on_eof = at.clients[0].on_eof
    assert on_eof
    on_eof()
    at.connections.tick()
    assert (at.gone, at.clients[0].did) == ([], [])
    at.kernel.slots.state[3] = 0
    at.connections.tick()
    at.kernel.conns.flags[5] = ConnFlag.CLOSED
    at.connections.tick()
    assert at.gone == []
    at.close()


@in_loop
async def test_a_client_that_closed_in_the_middle_gives_its_slot_up() -> None:
    at = Setting()
    at.admit(5)
    busy(at.kernel, 5, 3)
    on_eof = at.clients[0].on_eof
    assert on_eof
    on_eof()
    at.kernel.conns.flags[5] = ConnFlag.CLOSED
    at.connections.tick()
    assert at.gone[0] == 5
    assert at.clients[0].did == ["abort"]
    at.close()


@in_loop
async def test_closing_on_our_side_gives_the_slot_up_too() -> None:
    at = Setting()
    at.admit(5)
    busy(at.kernel, 5, 3)
    at.clients[0].abort()
    assert at.gone == [5]
    at.close()


@in_loop
async def test_what_the_kernel_could_not_deliver_is_reset() -> None:
    at = Setting()
    at.admit(5)
    at.admit(6)
    at.kernel.conns.flags[6] = ConnFlag.RESET
    at.connections.check_flags()
    assert [c.did for c in at.clients] == [[], ["abort"]]
    at.close()


@in_loop
async def test_ids_of_clients_that_left_before_accept_are_reclaimed_once() -> None:
    at = Setting()
    at.kernel.conns.id[5] = 5
    at.kernel.conns.flags[5] = ConnFlag.CLOSED
    at.connections.reclaim()
    assert not at.kernel.ids  # it may still wait to be accepted
    at.connections.reclaim()
    at.connections.reclaim()
    at.connections.reclaim()
    assert list(at.kernel.ids) == [5 | 1 << 16]
    at.close()


@in_loop
async def test_a_new_agent_sorts_out_the_ids_of_one_that_was_killed() -> None:
    at = Setting()
    at.kernel.ids.extend([7, 8 | 2 << 16])
    at.kernel.conns.id[7] = 0
    at.kernel.conns.id[8] = 8 | 1 << 16
    at.kernel.conns.id[9] = 9 | 4 << 16
    at.kernel.conns.flags[9] = ConnFlag.CLOSED
    at.kernel.conns.id[10] = 10  # a client that still holds its dead connection
    at.connections.recover()
    assert {7, 8 | 2 << 16, 1 << 16, 65535 | 1 << 16} <= set(at.kernel.ids)
    assert not {9, 10} & {i & 0xFFFF for i in at.kernel.ids}
    assert 0 not in at.kernel.ids
    at.connections.tick()
    assert 9 | 5 << 16 in at.kernel.ids
    at.kernel.conns.flags[10] = ConnFlag.CLOSED
    at.connections.tick()
    assert sorted(i & 0xFFFF for i in at.kernel.ids) == list(range(65536))
    at.close()


@in_loop
async def test_draining_waits_for_transactions_and_resets_what_never_ends() -> None:
    at = Setting()
    at.admit(5)
    at.admit(6)
    at.admit(7)
    busy(at.kernel, 6, 3)
    busy(at.kernel, 7, 4)
    asyncio.get_running_loop().call_later(0.03, at.kernel.slots.state.__setitem__, 3, 0)
    assert await at.connections.drain(0.1) == 1
    assert [c.did for c in at.clients] == [["close"], ["close"], ["abort"]]
    at.close()
