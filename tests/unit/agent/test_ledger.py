"""The byte account and the wait for kernel transactions."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from l7fp.abi import SlotFlag
from slowpath.agent.ledger import ConnLedger, IdleWatch
from tests.unit.agent.memory import FakeKernel, in_loop

CONN = 7 | 3 << 16
WATCHLESS = cast(IdleWatch, None)


def ledger(kernel: FakeKernel, watch: IdleWatch | None = None) -> ConnLedger:
    kernel.conns.id[7] = CONN
    return ConnLedger(kernel.conns, kernel.slots, watch or WATCHLESS, CONN)


def test_counts_add_up_in_the_record_of_the_connection_and_no_other() -> None:
    kernel = FakeKernel()
    book = ledger(kernel)
    book.promise(100)
    book.promise(23)
    book.settle(40)
    assert (kernel.conns.sent[7], kernel.conns.acked[7]) == (123, 40)
    assert not any(kernel.conns.sent[i] or kernel.conns.acked[i] for i in (0, 6, 8, 3))


@pytest.mark.parametrize(
    ("state", "busy"),
    [
        (0, False),
        (SlotFlag.BUSY | CONN, True),
        (SlotFlag.BUSY | SlotFlag.ADOPTED | SlotFlag.RESPONSE_STARTED | CONN, True),
        (SlotFlag.BUSY | SlotFlag.CLAIMED | CONN, True),  # its 504 is still to be written
        (SlotFlag.BUSY | SlotFlag.DEAD | CONN, False),
        (SlotFlag.BUSY | (7 | 4 << 16), False),  # the same record, a later connection
        (SlotFlag.BUSY | 8, False),
    ],
)
def test_busy_means_a_live_transaction_of_this_very_connection(state: int, busy: bool) -> None:
    kernel = FakeKernel()
    book = ledger(kernel)
    kernel.conns.slot[7] = 5
    kernel.slots.state[5] = state
    assert book.fast_busy() is busy


@in_loop
async def test_idle_is_told_once_and_not_before_the_transaction_ends() -> None:
    kernel, told = FakeKernel(), []
    book = ledger(kernel, IdleWatch(asyncio.get_running_loop()))
    kernel.conns.slot[7] = 5
    kernel.slots.state[5] = SlotFlag.BUSY | CONN
    book.on_fast_idle(lambda: told.append(1))
    await asyncio.sleep(0.01)
    assert told == []
    kernel.slots.state[5] = 0
    await asyncio.sleep(0.02)
    assert told == [1]
