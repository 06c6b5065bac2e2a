"""The pods and services of the demo, read from its own manifests, and the processes that play them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.processes import spawn, stop, wait_for_port

POLICIES = Path(__file__).resolve().parents[1]
REPOSITORY = POLICIES.parents[1]
CGROUP_ANNOTATION = "l7fp.io/cgroup"


@dataclass(frozen=True, slots=True)
class Pod:
    """`port` 0: a client, for which no process is started. `cgroup` is relative to the cgroup v2 mount."""

    name: str
    app: str
    version: str
    address: str
    port: int
    cgroup: str


@dataclass(frozen=True, slots=True)
class Service:
    """Name, cluster IP and port."""

    name: str
    address: str
    port: int


def _documents(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def pods(folder: Path = POLICIES) -> list[Pod]:
    """Every Pod in `folder`."""
    return [_pod(d) for d in _documents(folder) if d["kind"] == "Pod"]


def _pod(manifest: Mapping[str, Any]) -> Pod:
    meta = manifest["metadata"]
    containers = manifest["spec"].get("containers", ())
    return Pod(
        name=meta["name"],
        app=meta["labels"]["app"],
        version=meta["labels"].get("version", ""),
        address=manifest["status"]["podIP"],
        port=containers[0]["ports"][0]["containerPort"] if containers else 0,
        cgroup=meta["annotations"][CGROUP_ANNOTATION],
    )


def services(folder: Path = POLICIES) -> list[Service]:
    """Every Service in `folder`."""
    return [
        Service(d["metadata"]["name"], d["spec"]["clusterIP"], d["spec"]["ports"][0]["port"])
        for d in _documents(folder)
        if d["kind"] == "Service"
    ]


def environment(folder: Path = POLICIES) -> dict[str, str]:
    """What Kubernetes tells every container about services."""
    out = {}
    for service in services(folder):
        out[f"{service.name.upper()}_SERVICE_HOST"] = service.address
        out[f"{service.name.upper()}_SERVICE_PORT"] = str(service.port)
    return out


class Application:
    """The running pods of `folder`. `cgroups` is the cgroup v2 mount, None to run without identities."""

    def __init__(self, cgroups: Path | None, folder: Path = POLICIES) -> None:
        self._cgroups = cgroups
        self._environment = environment(folder)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.pods = {pod.name: pod for pod in pods(folder)}
        self.services = services(folder)

    def start(self) -> None:
        """Make the cgroups, start one process a pod, wait until all accept."""
        for pod in self.pods.values():
            if self._cgroups is not None:
                (self._cgroups / pod.cgroup).mkdir(parents=True, exist_ok=True)
            if pod.port:
                self.start_pod(pod.name, wait=False)
        for name, process in self._running.items():
            wait_for_port(self.pods[name].address, self.pods[name].port, process)

    def start_pod(self, name: str, *, wait: bool = True) -> None:
        """Start one pod's process."""
        pod = self.pods[name]
        command = [sys.executable, "-m", "policies.demo.app.services", pod.app, pod.version, name, pod.address]
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._running[name] = spawn(
            [*command, str(pod.port)],
            cgroup=None if self._cgroups is None else self._cgroups / pod.cgroup,
            env={**self._environment, "PYTHONPATH": path},
            stderr=None,
        )
        if wait:
            wait_for_port(pod.address, pod.port, self._running[name])

    def kill_pod(self, name: str) -> None:
        """End one pod's process without a chance to say goodbye."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all processes."""
        stop(self._running.values())
        self._running.clear()
