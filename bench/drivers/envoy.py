"""Envoy as one sidecar (the client's) or two (the client's and the server's, as a mesh has them)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bench import backend, envoy
from bench.processes import free_port, stop


class EnvoySidecars:
    """`sidecars` is 1 or 2; each Envoy runs `concurrency` worker threads.

    With one, it routes and authorizes. With two, the client's routes and the server's authorizes. The client
    connects to the sidecar's port itself: the redirect by iptables that a mesh adds is left out, in Envoy's favour.
    """

    client_cgroup: Path | None = None

    def __init__(self, sidecars: int, concurrency: int) -> None:
        self.name = f"envoy{sidecars}" + ("" if concurrency == 1 else f"-t{concurrency}")
        threads = f"{concurrency} thread" + ("s" if concurrency > 1 else "")
        self.title = f"Envoy, {'one sidecar' if sidecars == 1 else 'two sidecars'}, {threads} each"
        self._sidecars, self._concurrency = sidecars, concurrency
        self._processes: list[subprocess.Popen[bytes]] = []
        self._entry = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._entry}"

    def start(self) -> None:
        server_port = free_port()
        self._processes.append(backend.start("127.0.0.1", server_port, "web"))
        with tempfile.TemporaryDirectory(prefix="l7fp-bench-") as folder:
            upstream = ("127.0.0.1", server_port)
            if self._sidecars == 2:
                inbound = free_port()
                settings = envoy.config(inbound, [upstream], routing=False, authorization=True)
                self._launch(Path(folder), "inbound", settings, inbound)
                upstream = ("127.0.0.1", inbound)
            settings = envoy.config(self._entry, [upstream], routing=True, authorization=self._sidecars == 1)
            self._launch(Path(folder), "outbound", settings, self._entry)

    def _launch(self, folder: Path, name: str, settings: dict[str, object], port: int) -> None:
        process = envoy.start(folder, name, settings, concurrency=self._concurrency, port=port)
        self._processes.append(process)

    def pids(self) -> list[int]:
        return [p.pid for p in self._processes]

    def handled(self) -> tuple[int, int] | None:
        return None

    def stop(self) -> None:
        stop(self._processes)
        self._processes.clear()
