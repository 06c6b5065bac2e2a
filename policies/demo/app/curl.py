"""Real requests: curl, run as one of the demo's clients, and what it reports."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import spawn
from l7fp.errors import UnavailableError
from policies.demo.app.topology import Service

_REPORT = '{"status":"%{http_code}","pod":"%header{x-pod}","total":%{time_total}}\\n'


@dataclass(frozen=True, slots=True)
class Answer:
    """`pod`: who answered, empty where no server did. `micros`: all that curl did for it, connecting included."""

    status: int
    pod: str
    micros: float


def shown(arguments: Sequence[str]) -> str:
    """The command as a person would type it in a pod."""
    return shlex.join(["curl", *arguments])


class Curl:
    """Runs curl in the cgroup of a client; names of services resolve to their cluster IPs, as in a pod."""

    def __init__(self, cgroup: Path, services: Iterable[Service]) -> None:
        self._cgroup = cgroup
        self._names = [_resolve(service) for service in services]

    def __call__(self, *arguments: str) -> list[Answer]:
        """One answer for each request that `arguments` make (a URL with a range makes several)."""
        return [_answer(line) for line in self.output("-o", "/dev/null", "-w", _REPORT, *arguments).splitlines()]

    def output(self, *arguments: str) -> str:
        """What curl prints."""
        output, _ = self.start(*arguments).communicate(timeout=60)
        return output.decode()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """curl under way; what it prints is to be read."""
        command = ["curl", "-s", "--max-time", "20"]
        command += [word for name in self._names for word in ("--resolve", name)]
        try:
            return spawn([*command, *arguments], cgroup=self._cgroup, stdout=subprocess.PIPE)
        except FileNotFoundError:
            raise UnavailableError("curl is not installed", hint="apt install curl") from None


def _resolve(service: Service) -> str:
    return f"{service.name}:{service.port}:{service.address}"


def _answer(line: str) -> Answer:
    numbers = json.loads(line)
    return Answer(int(numbers["status"]), numbers["pod"], numbers["total"] * 1e6)
