"""Many deadlines, one timer: requests come and go far more often than they time out."""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_S = 0.01


class Timed(Protocol):
    """Something with a deadline: loop time in seconds."""

    deadline: float

    def expired(self, now: float) -> None:
        """The deadline has passed; it is no longer watched."""


class Deadlines:
    """Calls `expired` at most one tick late. Ticks only while there is something to watch."""

    __slots__ = ("_loop", "_ticking", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Timed] = set()
        self._ticking = False

    def watch(self, timed: Timed) -> None:
        """Watch `timed.deadline`, which may change while it is watched."""
        self._watched.add(timed)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def forget(self, timed: Timed) -> None:
        """Stop watching; fine if it is not watched."""
        self._watched.discard(timed)

    def _tick(self) -> None:
        now = self._loop.time()
        for timed in [t for t in self._watched if t.deadline <= now]:
            self._watched.discard(timed)
            timed.expired(now)
        if self._watched:
            self._loop.call_later(TICK_S, self._tick)
        else:
            self._ticking = False
