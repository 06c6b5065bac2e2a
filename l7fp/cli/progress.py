"""Progress of what takes a while: on standard error, on a terminal, and only after a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

DELAY_S = 1.0


class _Line:
    """A spinner that appears once `DELAY_S` has gone by."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._status: Status | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(DELAY_S, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def _appear(self) -> None:
        from rich.console import Console

        with self._lock:
            if not self._timer.finished.is_set():  # not cancelled
                self._status = Console(stderr=True).status(self._text)
                self._status.start()

    def say(self, text: str) -> None:
        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(text)

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            if self._status is not None:
                self._status.stop()


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Yields a function that changes what is said to be under way. Silent when standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    line = _Line(text)
    try:
        yield line.say
    finally:
        line.end()
