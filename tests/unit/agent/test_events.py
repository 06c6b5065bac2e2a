"""What the ring reports: acted on, kept, and passed on to whoever asks."""

from __future__ import annotations

import asyncio

from l7fp.abi import EventType
from l7fp.loader.ring import Event
from slowpath.agent import events as module
from slowpath.agent.events import OBSERVED, Events
from tests.unit.agent.memory import FakeKernel, event, in_loop


def made(kernel: FakeKernel, acted: list[Event]) -> Events:
    actions = {EventType.TIMEOUT: acted.append, EventType.RESET: acted.append}
    return Events(kernel, asyncio.get_running_loop(), actions)


@in_loop
async def test_events_are_acted_on_in_order_counted_and_kept() -> None:
    kernel, acted = FakeKernel(), list[Event]()
    events = made(kernel, acted)
    kernel.pending = [event(EventType.TIMEOUT, slot=1), event(EventType.REQUEST), event(EventType.RESET, conn=2)]
    events.consume()
    assert [e.type for e in acted] == [EventType.TIMEOUT, EventType.RESET]
    assert events.counts == {EventType.TIMEOUT: 1, EventType.REQUEST: 1, EventType.RESET: 1}
    assert len(events.recent) == 3


@in_loop
async def test_requests_are_reported_only_while_somebody_listens() -> None:
    kernel = FakeKernel()
    events = made(kernel, [])
    first, second = events.subscribe(), events.subscribe()
    assert kernel.mask == OBSERVED
    events.unsubscribe(first)
    assert kernel.mask == OBSERVED
    events.unsubscribe(second)
    assert kernel.mask == 0


@in_loop
async def test_a_subscriber_that_does_not_keep_up_loses_events_and_knows_how_many() -> None:
    kernel = FakeKernel()
    events = made(kernel, [])
    subscription = events.subscribe()
    kernel.pending = [event(EventType.REQUEST, conn=n) for n in range(module.QUEUE + 5)]
    while kernel.pending:
        events.consume()
    assert subscription.queue.qsize() == module.QUEUE
    assert subscription.lost == 5
    assert subscription.queue.get_nowait().conn == 0
