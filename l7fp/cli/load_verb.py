"""`l7fp load`: put a bundle on this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click

from l7fp.cli.options import cgroup_option, instance_option, protect_option
from l7fp.cli.output import print_json
from l7fp.cli.progress import progress
from l7fp.errors import LoadError, UnavailableError, UsageError

READY_SECONDS = 60.0


@click.command("load")
@click.argument("bundle", metavar="BUNDLE")
@instance_option
@cgroup_option
@protect_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: str, instance: str, cgroup: str | None, protect: bool, as_json: bool) -> int:
    """Put BUNDLE (made by `l7fp compile`) in force, and return.

    Where a process already serves the instance, it takes the new policy over at once, without touching connections.
    Else one is started in the background; `l7fp unload` ends it.
    """
    from l7fp.cli import deploy
    from l7fp.loader import features
    from slowpath.agent import admin

    path = Path(bundle)
    deploy.read(bundle)  # a bad bundle is refused here, before anything is touched
    features.require()
    with progress("loading"):
        if answers(instance):
            if cgroup or protect:
                raise UsageError(
                    "--cgroup and --protect cannot change while the instance is served", hint="l7fp unload, then load"
                )
            answer = admin.ask(instance, {"op": "reload", "bundle": str(path.absolute())}, timeout=READY_SECONDS)
            if not answer.pop("ok"):
                raise LoadError(answer["error"], hint=answer.get("hint", ""))
            result = {"instance": instance, "replaced": True, **answer}
        else:
            result = {"instance": instance, "replaced": False, **_start(path, instance, cgroup, protect)}
    if as_json:
        print_json(result)
    else:
        said = (
            f"replaced by version {result['version']}" if result["replaced"] else f"served by process {result['pid']}"
        )
        click.echo(f"{instance}: {said}")
    return 0


def answers(instance: str) -> bool:
    """Whether a process serves `instance`."""
    from slowpath.agent import admin

    try:
        admin.ask(instance, {"op": "status"})
    except UnavailableError:
        return False
    return True


def _start(bundle: Path, instance: str, cgroup: str | None, protect: bool) -> dict[str, int | str]:
    """`l7fp run` in the background; its pid and log, once it is ready."""
    from slowpath.agent import admin

    command = [sys.executable, "-m", "l7fp", "run", str(bundle.absolute()), "--instance", instance]
    command += ["--cgroup", cgroup] if cgroup else []
    command += ["--protect"] if protect else []
    log_path = admin.socket_path(instance).with_suffix(".log")
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        said = log_path.read_text(errors="replace")
        if any(line.startswith("ready") for line in said.splitlines()):
            return {"pid": process.pid, "log": str(log_path)}
        if process.poll() is not None:
            last = [line for line in said.splitlines() if line.strip()] or [f"status {process.returncode}"]
            reason = next((line for line in last if line.startswith("l7fp: ")), last[-1]).removeprefix("l7fp: ")
            hint = next((line.strip().removeprefix("hint: ") for line in last if line.startswith("  hint: ")), "")
            raise LoadError(reason, hint=hint)
        time.sleep(0.05)
    process.terminate()
    raise LoadError(f"l7fp run was not ready after {READY_SECONDS:g} s", hint=f"see {log_path}")
