"""The agent's own place in the cgroup tree.

The programs run for sockets made below the managed cgroup, and the agent's own (A1, A2) must be
among them: BPF hands the agent its clients' identity and the servers their slots that way. So an
agent that was started elsewhere moves into a child of the managed cgroup before it makes sockets.
"""

from __future__ import annotations

import os
from pathlib import Path

from l7fp.errors import UnavailableError

CHILD = "l7fp-agent"


def current(mount: Path) -> Path:
    """Directory of this process's cgroup v2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return mount / path.lstrip("/")
    raise UnavailableError("this process is in no cgroup v2", hint="mount cgroup2")


class Membership:
    """Being below `managed`, a directory under the cgroup v2 mount point `mount`. Undo it with `leave`."""

    def __init__(self, managed: Path, mount: Path) -> None:
        self._child: Path | None = None
        self._home = current(mount)
        if managed in (self._home, *self._home.parents):
            return
        child = managed / CHILD
        try:
            child.mkdir(exist_ok=True)
            (child / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            raise UnavailableError(
                f"the agent cannot move into {child}: {error.strerror}",
                hint=f"start it in a cgroup below {managed}",
            ) from error
        self._child = child

    def leave(self) -> None:
        """Back to where the process came from."""
        if self._child is None:
            return
        try:
            (self._home / "cgroup.procs").write_text(str(os.getpid()))
            self._child.rmdir()
        except OSError:
            pass  # the way back is gone, or something else moved in; an empty cgroup harms nobody
        self._child = None
