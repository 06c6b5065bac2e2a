"""Takes everything away again when the process that set it up ends, however it ends.

A child in a session of its own waits at a pipe that only its parent writes to. When the pipe closes (the
parent has finished, was interrupted, or was killed) it unloads the instance, ends what runs in
the cgroup, and removes the cgroup and the named network namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.processes import remove_cgroup


class Reaper:
    """Watches over one cgroup, one l7fp instance and named network namespaces, from `__init__` until `close`."""

    def __init__(self, cgroup: Path, instance: str, namespaces: Sequence[str] = ()) -> None:
        reading, self._pipe = os.pipe()
        command = [sys.executable, "-m", "bench.reaper", str(reading), str(cgroup), instance, *namespaces]
        repository = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join([repository, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            command, pass_fds=[reading], start_new_session=True, env={**os.environ, "PYTHONPATH": path}
        )
        os.close(reading)

    def close(self) -> None:
        """Let it do its work now and wait for it."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            self._process.wait()


def unload(instance: str) -> None:
    """Remove what the instance has in the kernel."""
    command = [sys.executable, "-m", "l7fp", "unload", "--instance", instance]
    subprocess.run(command, capture_output=True, timeout=60)


def main() -> None:
    pipe, cgroup, instance, *namespaces = sys.argv[1:]
    while os.read(int(pipe), 1):
        pass
    unload(instance)
    remove_cgroup(Path(cgroup))
    for name in namespaces:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


if __name__ == "__main__":
    main()
