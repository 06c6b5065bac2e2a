"""Removes what a test run made, also when it was killed.

    python reaper.py PID TOKEN

waits for process PID to end, then unloads the l7fp instances in bpffs under TOKEN, ends the processes in cgroups named
TOKEN*, removes these and the network namespaces named TOKEN*. Names are all it needs, so it misses nothing that the
dead process had no time to report.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from l7fp.loader import mounts
from l7fp.loader.loader import Loader

BPFFS = "/sys/fs/bpf"


def wait_for(pid: int) -> None:
    """Until the process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [])
    os.close(fd)


def remove_bpffs(token: str) -> None:
    """Unload every instance under <bpffs>/TOKEN and remove that folder."""
    root = Path(BPFFS, token)
    if not root.is_dir():
        return
    for instance in root.iterdir():
        if instance.is_dir():
            Loader(instance=instance.name, bpffs=str(root)).unload()
        else:
            instance.unlink()
    root.rmdir()


def remove_cgroup(path: Path) -> None:
    """End the processes of a cgroup and its descendants, then remove them."""
    for folder in sorted((Path(p) for p, _, _ in os.walk(path)), key=lambda p: -len(p.parts)):
        for _ in range(100):
            pids = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.01)


def remove_all(token: str) -> None:
    """Everything named by the token."""
    for folder in Path(BPFFS).glob(f"{token}*"):
        remove_bpffs(folder.name)
    root = mounts.cgroup2()
    for cgroup in Path(root).glob(f"{token}*") if root else ():
        remove_cgroup(cgroup)
    for netns in Path("/run/netns").glob(f"{token}*"):
        subprocess.run(["ip", "netns", "del", netns.name], check=False)


def main() -> None:
    pid, token = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_for(pid)
    remove_all(token)


if __name__ == "__main__":
    main()
