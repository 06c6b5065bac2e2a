"""`l7fp unload`: take an instance off this machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click

from l7fp.cli.options import instance_option
from l7fp.cli.output import print_json
from l7fp.cli.progress import progress

STOP_SECONDS = 15.0


@click.command("unload")
@instance_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(instance: str, as_json: bool) -> int:
    """Remove every program, map, link and pin of an instance, whoever put it there and however that ended.

    A process that still serves the instance is asked to end first. Where nothing is loaded nothing happens.
    """
    from l7fp.loader.loader import Loader

    loader = Loader(instance=instance)
    with progress("unloading"):
        meta = loader.pins.read_meta()
        stopped = stop_owner(instance)
        removed = loader.unload()
        _remove_leftovers(instance, meta.cgroup if meta else "")
    left = sorted(f"{kind.name.lower()} {number}" for kind, number in loader.remaining)
    if as_json:
        print_json({"instance": instance, "stopped": stopped, "removed": removed, "still_held": left})
    else:
        if stopped:
            click.echo(f"stopped process {stopped}")
        click.echo(f"removed {len(removed)} pins" if removed else "nothing was loaded" if not stopped else "unloaded")
        for name in left:
            click.echo(f"another process still holds {name}")
    return int(bool(left))


def _remove_leftovers(instance: str, cgroup: str) -> None:
    """The admin socket and the log of a process that was killed, and the cgroup it had moved into."""
    from l7fp.loader import mounts
    from slowpath.agent.admin import socket_path
    from slowpath.agent.cgroups import CHILD

    path = socket_path(instance)
    for leftover in (path, path.with_suffix(".log")):
        leftover.unlink(missing_ok=True)
    # one that was killed while it started has left no word of where it was
    mount = mounts.cgroup2()
    places = [Path(cgroup, CHILD)] if cgroup else list(Path(mount).rglob(CHILD)) if mount else []
    for place in places:
        try:
            place.rmdir()
        except OSError:
            pass  # there is none, or another instance's process is in it


def stop_owner(instance: str) -> int | None:
    """Ask the process that serves `instance` to end and wait for it; its pid, None if there was none.

    The pid is only believed when the process began when the owner did: pids come round.
    """
    from l7fp.loader.pins import Pins, process_start

    meta = Pins("/sys/fs/bpf", instance).read_meta()
    if meta is None or meta.pid == os.getpid() or not meta.owner_alive:
        return None
    os.kill(meta.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while process_start(meta.pid) == meta.started and time.monotonic() < deadline:
        time.sleep(0.02)
    if process_start(meta.pid) == meta.started:
        os.kill(meta.pid, signal.SIGKILL)
    return meta.pid
