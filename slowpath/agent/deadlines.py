"""Deadlines of kernel transactions: a stamp in the slot, and a sweep over all slots by the control program.

The sweep claims what is overdue and reports it through the ring (`EventType.TIMEOUT`), so the
agent pays one system call a period, however many slots there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from l7fp import abi
from slowpath.agent.kernel import Kernel

PERIOD_S = 0.020


class Deadlines:
    """`highest` is the highest slot id in use."""

    def __init__(self, kernel: Kernel, loop: asyncio.AbstractEventLoop, highest: Callable[[], int]) -> None:
        self._kernel = kernel
        self._loop = loop
        self._highest = highest
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sweep every PERIOD_S from now on."""
        self._timer = self._loop.call_later(PERIOD_S, self._sweep)

    def _sweep(self) -> None:
        self.start()
        highest = self._highest()
        if highest:
            self._kernel.ctl(abi.CtlOp.SWEEP, highest)

    def close(self) -> None:
        """No more sweeps."""
        if self._timer is not None:
            self._timer.cancel()
