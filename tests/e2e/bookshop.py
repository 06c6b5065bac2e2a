"""The demo's application and policies in network namespaces of their own, behind a real `l7fp run`.

Addresses are of the ranges kept for documentation, and no namespace has a way out: what is not captured goes nowhere.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.drivers.l7fp import serve
from bench.processes import cgroup_root, spawn, stop, wait_for_port
from bench.reaper import Reaper
from l7fp.loader import netns
from policies.demo.app.curl import Answer, Curl
from policies.demo.app.node import Count, State
from policies.demo.app.topology import POLICIES, Application, Pod
from slowpath.agent.admin import ask

PODS = {4: "192.0.2.", 6: "2001:db8:1::"}
CLUSTER_IPS = {4: "198.51.100.", 6: "2001:db8:96::"}
ENDS = {4: "203.0.113.", 6: "2001:db8:2::"}
_numbers = itertools.count()

LIBRARY_PORT = 9081
_LIBRARY = """
apiVersion: v1
kind: Service
metadata: {{name: library, namespace: bookshop}}
spec:
  clusterIP: {service}
  selector: {{app: library}}
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: library
  namespace: bookshop
  labels: {{app: library}}
  annotations: {{l7fp.io/cgroup: {cgroup}}}
spec: {{serviceAccountName: library}}
status: {{podIP: "{pod}"}}
"""
# one more service, for other servers than the demo's; its port is free on all addresses


@dataclass(frozen=True, slots=True)
class Layout:
    """IP version, and whether clients, servers and the agent are apart: a network namespace for each."""

    version: int
    apart: bool

    def __str__(self) -> str:
        return f"ipv{self.version}-{'three' if self.apart else 'one'}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str


def l7fp(*arguments: str) -> str:
    """Output of a verb, which must succeed."""
    done = subprocess.run([sys.executable, "-m", "l7fp", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Spaces:
    """The namespaces of a layout, by what is in them: `clients`, `servers` and `agent` (which may be the same)."""

    def __init__(self, prefix: str, layout: Layout) -> None:
        self._layout = layout
        roles = ("clients", "servers", "agent")
        self.names = {role: f"{prefix}-{role if layout.apart else 'all'}" for role in roles}
        self._fds: dict[str, int] = {}

    def make(self) -> None:
        """Loopback everywhere; a veth pair between clients and servers that are apart."""
        for name in sorted(set(self.names.values())):
            _ip("netns", "add", name)
            self._fds[name] = netns.open_netns(name)
            _ip("-n", name, "link", "set", "lo", "up")
        if self._layout.apart:
            here, there = self.names["clients"], self.names["servers"]
            _ip("-n", here, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", there)
            for number, name in enumerate((here, there), 1):
                self.add_address(name, f"{ENDS[self._layout.version]}{number}")
                _ip("-n", name, "link", "set", "veth0", "up")

    def add_address(self, name: str, address: str) -> None:
        """One more address for a namespace; on the pair, the other side reaches it."""
        device = "veth0" if self._layout.apart else "lo"
        v6 = ":" in address
        length = ("64" if v6 else "24") if device == "veth0" else ("128" if v6 else "32")
        _ip("-n", name, "address", "add", f"{address}/{length}", "dev", device, *(["nodad"] if v6 else []))

    def inside(self, role: str) -> AbstractContextManager[None]:
        """Processes started in the block are in that namespace."""
        return netns.entered(self._fds[self.names[role]])

    def close(self) -> None:
        """Let go of them; the reaper removes their names."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class Bookshop:
    """Made, then `start`ed; `close` removes everything, and so does a watching process should this one be killed."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        root = cgroup_root()
        assert root is not None
        self.root, self.layout = root, layout
        self.instance = f"l7fp-shop-{os.getpid()}-{next(_numbers)}"
        self.cgroup = root / self.instance
        self.spaces = Spaces(self.instance, layout)
        self._folder = folder
        self._before = State({}, {})
        self.run: subprocess.Popen[bytes] | None = None
        self.policies = folder / "policies"
        self._write_policies()
        self.application = Application(root, self.policies)
        self._reaper = Reaper(self.cgroup, self.instance, sorted(set(self.spaces.names.values())))

    def _write_policies(self) -> None:
        self.policies.mkdir()
        exchanged = {
            "127.0.10.": PODS[self.layout.version],
            "127.96.10.": CLUSTER_IPS[self.layout.version],
            "l7fp-demo/": f"{self.instance}/",
        }
        for path in POLICIES.glob("*.yaml"):
            text = path.read_text()
            for old, new in exchanged.items():
                text = text.replace(old, new)
            (self.policies / path.name).write_text(text)
        library = _LIBRARY.format(
            service=f"{CLUSTER_IPS[self.layout.version]}99",
            pod=f"{PODS[self.layout.version]}99",
            port=LIBRARY_PORT,
            cgroup=f"{self.instance}/library",
        )
        (self.policies / "library.yaml").write_text(library)

    def start(self) -> None:
        """Namespaces, pods, then l7fp, from outside of the cgroup that it manages."""
        self.spaces.make()
        for pod in self.application.pods.values():
            self.spaces.add_address(self.spaces.names[_role(pod)], pod.address)
        with self.spaces.inside("servers"):
            self.application.start()
        self.serve()

    def serve(self) -> None:
        """`l7fp run`, until it is ready."""
        arguments = ["run", "--instance", self.instance, "--cgroup", str(self.cgroup), str(self.policies)]
        with self.spaces.inside("agent"):
            self.run = serve(arguments, self._folder)

    def curl(self, pod: str) -> Curl:
        """curl as that pod: its cgroup. To be used inside its namespace."""
        return Curl(self.root / self.application.pods[pod].cgroup, self.application.services)

    def ask(self, pod: str, *arguments: str) -> Reply:
        """One request by a pod."""
        with self.spaces.inside(_role(self.application.pods[pod])):
            said = self.curl(pod).output("-i", *arguments)
        head, _, body = said.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        pairs = (line.partition(":") for line in lines)
        return Reply(int(first.split(" ")[1]), {k.lower(): v.strip() for k, _, v in pairs}, body)

    def answers(self, pod: str, arguments: Sequence[str]) -> list[Answer]:
        """All that one curl by a pod got."""
        with self.spaces.inside(_role(self.application.pods[pod])):
            return self.curl(pod)(*arguments)

    def spent(self) -> State:
        """What `l7fp status --json` says, since the last `forget`."""
        return _state(json.loads(l7fp("status", "--json", "--instance", self.instance))).since(self._before)

    def forget(self) -> None:
        """`spent` counts from here."""
        self._before = _state(ask(self.instance, {"op": "status"}))

    def usable(self, pod: str) -> bool:
        """Whether the kernel may send requests to that pod."""
        said = ask(self.instance, {"op": "status"})
        address = self.application.pods[pod].address
        return any(e["usable"] for e in said["endpoints"] if e["address"] == address)

    @contextmanager
    def library(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command serves as the library, at its pod's address and `LIBRARY_PORT`, in the block."""
        pod = self.application.pods["library"]
        with self.spaces.inside("servers"):
            process = spawn(command, cgroup=self.root / pod.cgroup)
        try:
            with self.spaces.inside("servers"):
                wait_for_port(pod.address, LIBRARY_PORT, process)
            wait_until(lambda: self.usable(pod.name))
            self.forget()
            yield process
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Idempotent."""
        self.application.stop()
        if self.run is not None:
            stop([self.run], timeout=10)
        self.spaces.close()
        self._reaper.close()


def _state(said: Mapping[str, Any]) -> State:
    rules = {r["name"]: Count(r["forwarded"] + r["replied"], r["diverted"]) for r in said["rules"]}
    return State(rules, said["diverted"])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _role(pod: Pod) -> str:
    return "servers" if pod.port or pod.name == "library" else "clients"
