"""The ring buffer's consumer: acts on what the programs need done, keeps the last events, feeds subscribers."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from l7fp.abi import EventType
from l7fp.loader.ring import Event
from slowpath.agent.kernel import Kernel

KEPT = 1000
BATCH = 4096
QUEUE = 10_000
# What the programs report whether or not anybody listens: the agent acts on it.
ACTED_ON = (EventType.NO_LISTENER, EventType.RESET, EventType.TIMEOUT, EventType.TIMEOUT_LATE)
OBSERVED = 1 << EventType.REQUEST | 1 << EventType.REPLY | 1 << EventType.DIVERT


class Subscription:
    """A bounded queue of events; what does not fit is lost and counted."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE)
        self.lost = 0

    def put(self, event: Event) -> None:
        """Never waits."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.lost += 1


class Events:
    """`actions` maps event types to what is done about them, in the order of the ring.

    Requests are reported by the kernel only while somebody subscribes: at full speed the ring would
    cost more than the requests.
    """

    def __init__(
        self, kernel: Kernel, loop: asyncio.AbstractEventLoop, actions: dict[int, Callable[[Event], None]]
    ) -> None:
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self.counts: Counter[int] = Counter()
        self._kernel = kernel
        self._loop = loop
        self._actions = actions
        self._subscriptions: set[Subscription] = set()

    def start(self) -> None:
        """Begin to consume."""
        self._kernel.set_event_mask(0)
        self._loop.add_reader(self._kernel.event_fd(), self.consume)

    def consume(self) -> None:
        """Handle one batch."""
        for event in self._kernel.read_events(BATCH):
            self.counts[event.type] += 1
            self.recent.append(event)
            action = self._actions.get(event.type)
            if action is not None:
                action(event)
            for subscription in self._subscriptions:
                subscription.put(event)

    def subscribe(self) -> Subscription:
        """From now on every event. Give the subscription back to `unsubscribe`."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        self._kernel.set_event_mask(OBSERVED)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """No more."""
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            self._kernel.set_event_mask(0)

    def close(self) -> None:
        """Stop consuming."""
        self._loop.remove_reader(self._kernel.event_fd())
        self._kernel.set_event_mask(0)
