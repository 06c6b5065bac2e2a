"""From the workloads of a policy to the cgroups of their processes.

A workload's `cgroup` is a path below the cgroup v2 root or `pod:UID`, which Kubernetes' cgroup drivers turn into
`.../podUID` or `...-podUID_WITH_UNDERSCORES.slice`. On cgroup v2 the inode of the folder is the id that BPF sees.
Cgroups come and go with pods: scan again to see them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from l7fp.errors import LoadError
from l7fp.ir.model import Workload

_POD = re.compile(r"(?:^|-)pod([0-9a-fA-F_-]{8,})(?:\.slice)?$")
_POD_PREFIX = "pod:"


@dataclass(frozen=True, slots=True)
class Scan:
    """`found`: cgroup id -> workload. `missing`: names of those whose cgroup is not there now."""

    found: dict[int, Workload]
    missing: tuple[str, ...]


def check(workloads: Iterable[Workload]) -> None:
    """Raise `LoadError` when two workloads claim one cgroup: nobody could tell their requests apart."""
    seen: dict[str, str] = {}
    for workload in workloads:
        if not workload.cgroup:
            continue
        other = seen.setdefault(_normal(workload.cgroup), workload.name)
        if other != workload.name:
            raise LoadError(
                f"workloads {other} and {workload.name} have the same cgroup {workload.cgroup}",
                hint="give each workload a cgroup of its own",
            )


def scan(workloads: Iterable[Workload], root: str) -> Scan:
    """Find the cgroups below mount point `root`."""
    wanted = [workload for workload in workloads if workload.cgroup]
    pods: dict[str, str] = {}
    if any(workload.cgroup.startswith(_POD_PREFIX) for workload in wanted):
        pods = find_pods(root)
    found: dict[int, Workload] = {}
    missing = []
    for workload in wanted:
        normal = _normal(workload.cgroup)
        if normal.startswith(_POD_PREFIX):
            path = pods.get(normal.removeprefix(_POD_PREFIX), "")
        else:
            path = os.path.join(root, normal)
        number = cgroup_id(path) if path else None
        if number is None:
            missing.append(workload.name)
        else:
            found[number] = workload
    return Scan(found, tuple(missing))


def cgroup_id(path: str) -> int | None:
    """The id that BPF programs see for a cgroup, None when it isn't there."""
    try:
        return os.stat(path).st_ino if os.path.isdir(path) else None
    except OSError:
        return None


def find_pods(root: str) -> dict[str, str]:
    """Pod UID -> path of its cgroup, for all pods on this node."""
    out: dict[str, str] = {}
    pending = [root]
    while pending:
        try:
            entries = [entry for entry in os.scandir(pending.pop()) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # it went away meanwhile
            continue
        for entry in entries:
            pod = _POD.search(entry.name)
            if pod:
                out[pod[1].replace("_", "-").lower()] = entry.path
            else:
                pending.append(entry.path)
    return out


def _normal(cgroup: str) -> str:
    if cgroup.startswith(_POD_PREFIX):
        return cgroup.lower()
    path = os.path.normpath("/" + cgroup).lstrip("/")
    return path or "."
