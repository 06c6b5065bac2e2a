"""What the runner needs of a contestant."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Driver(Protocol):
    """A way from the client to the server. `start` brings it up, `stop` takes everything of it away again."""

    name: str
    """Short, unique: a column of the report."""

    title: str
    """What it is, for the report's legend."""

    @property
    def url(self) -> str:
        """Where the client connects: `http://ADDRESS:PORT`, without a path."""

    @property
    def client_cgroup(self) -> Path | None:
        """Where the client has to run, None: anywhere."""

    def start(self) -> None:
        """Bring it up; raise `L7fpError` where it can't."""

    def pids(self) -> list[int]:
        """Every process that works for a request, apart from the client."""

    def handled(self) -> tuple[int, int] | None:
        """Requests so far that the kernel dealt with, and those that it diverted; None where that means nothing."""

    def stop(self) -> None:
        """Idempotent."""
