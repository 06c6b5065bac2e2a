"""What happens to a client when its server fails, is late, or answers in a way the kernel declines."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from l7fp.abi import CtlOp, RespMode, SlotFlag
from l7fp.ir.model import HeaderEdits
from slowpath.agent.adopt import Transactions
from slowpath.agent.connections import Connections
from slowpath.agent.pools import Pool, Upstream
from slowpath.agent.upstreams import Upstreams
from tests.unit.agent.memory import FakeKernel

CONN, SLOT = 7 | 1 << 16, 3
BUSY = SlotFlag.BUSY | SlotFlag.REQUEST_DONE | CONN
EDITS = (HeaderEdits(remove=("server",)),)


class FakeClient:
    """Notes what it was asked to do, together with the slot's state at that moment."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.did: list[Any] = []
        self.alive = True
        self.done: Callable[[bool], None] = lambda reusable: None
        self.total: Callable[[], int | None] = lambda: None

    def reply_now(self, status: int, code: str) -> bool:
        self.did.append((status, SlotFlag(self.kernel.slots.state[SLOT] >> 32 << 32)))
        return self.alive

    def relay_response(
        self, upstream: socket.socket, *, is_head: bool, edits: object, on_done: Any, timeout_ms: int | None
    ) -> bool:
        self.did.append(("relay", is_head, edits, timeout_ms))
        self.done = on_done
        return self.alive

    def relay_raw(self, upstream: socket.socket, *, total: Any, on_done: Any) -> bool:
        self.did.append("raw")
        self.total, self.done = total, on_done
        return self.alive

    def abort(self) -> None:
        self.did.append("abort")


class FakePool:
    """A pool that keeps its books only."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.retired: list[int] = []
        self.lent: list[bool] = []

    def kill(self, upstream: Upstream) -> int:
        if upstream.killed is None:
            upstream.killed = self.kernel.ctl(CtlOp.KILL, upstream.slot)[1]
        return upstream.killed

    def retire(self, upstream: Upstream) -> None:
        self.kill(upstream)
        self.retired.append(upstream.slot)

    def lend(self, upstream: Upstream) -> None:
        upstream.adopted = True
        self.lent.append(True)

    def take_back(self, upstream: Upstream) -> None:
        upstream.adopted = False
        self.lent.append(False)


class FakeConnections:
    """One live client."""

    def __init__(self, client: FakeClient) -> None:
        self.live = {CONN: client}
        self.accepted = True
        self.awaited: list[Callable[[], None]] = []

    def abort(self, conn_id: int) -> None:
        self.live[conn_id].abort()

    def when_open(self, conn_id: int, callback: Callable[[FakeClient | None], None]) -> None:
        if self.accepted:
            callback(self.live.get(conn_id))
        else:
            self.awaited.append(lambda: callback(self.live.get(conn_id)))

    def busy_slot(self, conn_id: int) -> int | None:
        return SLOT if conn_id == CONN else None


class FakeUpstreams:
    """One live slot."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def find(self, slot: int) -> Upstream | None:
        return self.upstream if slot == SLOT else None


class Setting:
    """One client, one slot, one server connection."""

    def __init__(self, state: int = BUSY) -> None:
        self.kernel = FakeKernel()
        self.kernel.slots.state[SLOT] = state
        self.client = FakeClient(self.kernel)
        self.pool = FakePool(self.kernel)
        ours, self.server = socket.socketpair()
        ours.setblocking(False)
        self.upstream = Upstream(SLOT, ours, cast(Pool, self.pool))
        self.transactions = Transactions(self.kernel, lambda version, dest: EDITS if version == 4 else None)
        self.connections = FakeConnections(self.client)
        self.transactions.bind(cast(Connections, self.connections), cast(Upstreams, FakeUpstreams(self.upstream)))

    def server_says(self, data: bytes) -> None:
        if data:
            self.server.send(data)
        else:
            self.server.close()
        self.transactions.readable(self.upstream)

    def close(self) -> None:
        self.upstream.sock.close()
        self.server.close()


ENDED = SlotFlag.DEAD | SlotFlag.CLAIMED


@pytest.mark.parametrize("how", [b"", b"junk"])
def test_a_server_that_leaves_or_babbles_before_it_answers_costs_its_client_a_503(how: bytes) -> None:
    at = Setting()
    at.server_says(how)
    [(status, state)] = at.client.did
    assert status == 503
    # swallowing and holding back begin before the answer, freedom comes after it
    assert state & ENDED == ENDED
    assert at.pool.retired == [SLOT]
    at.close()


def test_a_response_that_breaks_off_ends_the_client_connection() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED)
    at.server_says(b"")
    assert at.client.did == ["abort"]
    assert at.pool.retired == [SLOT]
    at.close()


@pytest.mark.parametrize(
    "state",
    [
        0,
        SlotFlag.BUSY | CONN | SlotFlag.RESPONSE_STARTED | SlotFlag.RESPONSE_DONE,  # answered early, then left
        BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.RESPONSE_DONE | SlotFlag.NO_REUSE | SlotFlag.DEAD,
    ],
)
def test_a_server_that_leaves_when_nobody_waits_is_replaced_in_silence(state: int) -> None:
    at = Setting(state)
    at.server_says(b"")
    assert at.client.did == []
    assert at.pool.retired == [SLOT]
    at.close()


def test_a_server_that_leaves_after_the_deadline_leaves_a_504() -> None:
    at = Setting(BUSY | SlotFlag.CLAIMED)
    at.server_says(b"")
    assert [status for status, _ in at.client.did] == [504]
    at.transactions.timed_out(SLOT, CONN)  # the event that was still in the ring
    at.close()


def test_a_declined_response_is_relayed_with_its_edits_and_the_slot_released() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.kernel.slots.version[SLOT] = 4
    at.kernel.slots.is_head[SLOT] = 1
    at.server_says(b"HTTP/1.0 200 OK\r\n\r\n")
    assert at.client.did == [("relay", True, EDITS, None)]
    assert at.pool.lent == [True]
    at.client.done(True)
    assert at.pool.lent == [True, False]
    assert (CtlOp.RELEASE, SLOT) in at.kernel.calls
    assert at.pool.retired == []
    at.close()


def test_what_is_left_of_the_deadline_goes_with_an_adopted_response() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.kernel.slots.version[SLOT] = 4
    at.kernel.slots.timeout_ms[SLOT] = 50
    at.kernel.slots.started_ns[SLOT] = 1  # long ago
    at.server_says(b"HTTP/1.0 200 OK\r\n\r\n")
    assert at.client.did == [("relay", False, EDITS, 1)]
    at.close()


@pytest.mark.parametrize(("reusable", "mark"), [(False, 0), (True, SlotFlag.NO_REUSE), (True, SlotFlag.DEAD)])
def test_an_upstream_that_cannot_be_used_again_is_retired(reusable: bool, mark: int) -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.kernel.slots.version[SLOT] = 4
    at.server_says(b"HTTP/1.0 200 OK\r\n\r\n")
    at.kernel.slots.state[SLOT] |= mark
    at.client.done(reusable)
    assert at.pool.retired == [SLOT]
    assert CtlOp.RELEASE not in [op for op, _ in at.kernel.calls]
    at.close()


def test_edits_that_nobody_knows_any_more_end_the_connection_rather_than_be_left_out() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.kernel.slots.version[SLOT] = 1
    at.server_says(b"HTTP/1.1 200 OK\r\n\r\n")
    assert at.client.did == ["abort"]
    assert at.pool.retired == [SLOT]
    at.close()


def test_the_rest_of_a_long_body_is_copied_until_the_kernel_has_passed_its_last_byte() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    slots = at.kernel.slots
    slots.resp_mode[SLOT] = RespMode.RELAY_CHUNKED
    slots.passed[SLOT] = 1000
    at.server_says(b"more")
    assert at.client.did == ["raw"]
    assert at.client.total() is None
    slots.passed[SLOT] = 5000
    slots.relay_done[SLOT] = 1
    assert at.client.total() == 5000
    at.client.done(True)
    assert (CtlOp.RELEASE, SLOT) in at.kernel.calls
    at.close()


def test_a_long_body_that_turns_out_malformed_ends_the_client_connection() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    slots = at.kernel.slots
    slots.resp_mode[SLOT] = RespMode.RELAY_CHUNKED
    at.server_says(b"more")
    slots.passed[SLOT] = 5000
    slots.relay_done[SLOT] = 2
    at.client.total()
    at.client.done(True)
    assert at.client.did == ["raw", "abort"]
    assert at.pool.retired == [SLOT]
    at.close()


def test_a_deadline_is_answered_with_504_and_the_server_dropped() -> None:
    at = Setting(BUSY | SlotFlag.CLAIMED)
    at.transactions.timed_out(SLOT, CONN)
    assert [status for status, _ in at.client.did] == [504]
    assert at.pool.retired == [SLOT]
    at.close()


def test_the_news_of_a_deadline_is_stale_once_the_slot_serves_another_client() -> None:
    at = Setting(SlotFlag.BUSY | SlotFlag.CLAIMED | 8)
    at.transactions.timed_out(SLOT, CONN)
    at.transactions.timed_out_late(SLOT, CONN)
    assert at.client.did == []
    assert at.pool.retired == []
    at.close()


def test_a_deadline_in_the_middle_of_a_response_ends_the_client_connection() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED)
    at.transactions.timed_out_late(SLOT, CONN)
    assert at.client.did == ["abort"]
    assert at.pool.retired == [SLOT]
    at.close()


def test_an_adopted_response_is_left_to_its_own_deadline() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.upstream.adopted = True
    at.transactions.timed_out_late(SLOT, CONN)
    assert at.client.did == []
    at.close()


def test_a_slot_whose_client_has_gone_is_retired() -> None:
    at = Setting()
    at.transactions.client_gone(CONN)
    assert at.pool.retired == [SLOT]
    at.close()


def test_a_slot_that_serves_somebody_else_by_now_is_left_alone() -> None:
    at = Setting(SlotFlag.BUSY | 8)
    at.transactions.client_gone(CONN)
    assert at.pool.retired == []
    assert at.kernel.slots.state[SLOT] == SlotFlag.BUSY | 8
    at.close()


def test_a_client_that_cannot_take_the_answer_is_reset() -> None:
    at = Setting()
    at.client.alive = False
    at.server_says(b"")
    assert at.client.did[-1] == "abort"
    at.close()


def test_what_is_due_to_a_client_waits_until_the_client_is_accepted() -> None:
    at = Setting()
    at.connections.accepted = False
    at.server_says(b"")
    assert at.client.did == []
    assert at.pool.retired == []  # the client stays on the slow path until it has its answer
    [accept] = at.connections.awaited
    accept()
    assert [status for status, _ in at.client.did] == [503]
    assert at.pool.retired == [SLOT]
    at.close()


def test_a_declined_response_whose_client_never_shows_up_is_dropped() -> None:
    at = Setting(BUSY | SlotFlag.RESPONSE_STARTED | SlotFlag.ADOPTED)
    at.kernel.slots.resp_mode[SLOT] = RespMode.ADOPT
    at.connections.accepted = False
    at.server_says(b"HTTP/1.0 200 OK\r\n\r\n")
    assert at.pool.lent == [True]
    at.connections.live.clear()
    at.connections.awaited[0]()
    assert at.pool.retired == [SLOT]
    at.close()
