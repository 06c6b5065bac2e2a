"""No proxy at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench import backend
from bench.processes import free_port, stop


class Direct:
    """The client talks to the server."""

    name = "direct"
    title = "no proxy"
    client_cgroup: Path | None = None

    def __init__(self) -> None:
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = backend.start("127.0.0.1", self._port, "web")

    def pids(self) -> list[int]:
        return [self._server.pid] if self._server else []

    def handled(self) -> tuple[int, int] | None:
        return None

    def stop(self) -> None:
        if self._server:
            stop([self._server])
            self._server = None
