"""`l7fp run`: compile, load and serve in the foreground."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from l7fp.cli.options import cgroup_option, instance_option, protect_option
from l7fp.cli.progress import progress
from l7fp.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from l7fp.ir.model import Policy
    from slowpath.agent.deployment import Deployment


@click.command("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@instance_option
@cgroup_option
@protect_option
@click.option("--keep", is_flag=True, help="Leave everything loaded in the end; new connections are refused then.")
@click.option("--take-over", is_flag=True, help="Replace a process that serves the same instance.")
@click.option("--no-kernel", is_flag=True, help="The slow path alone, on the --listen ports. Needs no root.")
@click.option("--listen", "listen", multiple=True, metavar="ADDRESS:PORT=SERVICE_PORT", help="May be repeated.")
def command(
    files: tuple[str, ...],
    instance: str,
    cgroup: str | None,
    protect: bool,
    keep: bool,
    take_over: bool,
    no_kernel: bool,
    listen: tuple[str, ...],
) -> int:
    """Compile policies (or take a bundle made by `l7fp compile`), load them and serve until interrupted.

    Prints a line that begins with `ready` once connections are served. SIGINT and SIGTERM end it after the requests
    under way; then everything is unloaded.
    """
    if no_kernel:
        if not listen:
            raise UsageError("--no-kernel needs --listen", hint="such as --listen 127.0.0.1:8080=80")
        return serve_alone(files, listen)
    if listen:
        raise UsageError(
            "--listen goes with --no-kernel", hint="in the kernel, services are reached at their own address"
        )
    return _serve(files, instance=instance, cgroup=cgroup, protect=protect, keep=keep, take_over=take_over)


def _serve(
    files: Sequence[str], *, instance: str, cgroup: str | None, protect: bool, keep: bool, take_over: bool
) -> int:
    import asyncio
    import signal

    from l7fp.loader import features
    from l7fp.loader.loader import Loader
    from slowpath.agent.deployment import AgentOptions
    from slowpath.agent.service import Agent, run

    features.require()
    deployment = _deployment(files)
    options = AgentOptions(protect=protect, take_over=take_over, unload=not keep)
    agent = Agent(Loader(instance=instance, cgroup=cgroup), deployment, options=options, read=_read_bundle)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, agent.stop)
        serving = asyncio.ensure_future(agent.run())
        ready = asyncio.ensure_future(agent.ready.wait())
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            click.echo(f"ready: instance {instance}, {_services(deployment.policy)}")
        else:
            ready.cancel()
        await serving

    run(main())
    return 0


def _services(policy: Policy) -> str:
    endpoints = {(e.address, e.port) for c in policy.clusters for e in c.endpoints}
    return f"{len(policy.services)} services, {len(endpoints)} endpoints"


def _deployment(files: Sequence[str]) -> Deployment:
    from l7fp.cli import deploy, pipeline

    if len(files) == 1 and deploy.is_bundle(files[0]):
        return deploy.read(files[0])
    with progress("compiling") as say:
        return deploy.deployment(pipeline.compiled(files, say).bundle)


def _read_bundle(path: str) -> Deployment:
    from l7fp.cli import deploy

    return deploy.read(path)


def parse_listen(text: str) -> tuple[str, int, int]:
    """`127.0.0.1:8080=80` or `[::1]:8080=80` as address, port and service port."""
    where, equals, service_port = text.partition("=")
    address, colon, port = where.rpartition(":")
    if not equals or not colon or not port.isdecimal() or not service_port.isdecimal():
        raise UsageError(f"{text!r} is not ADDRESS:PORT=SERVICE_PORT", hint="such as 127.0.0.1:8080=80")
    return address.strip("[]"), int(port), int(service_port)


def serve_alone(files: Sequence[str], listen: Sequence[str]) -> int:
    """The whole policy, enforced by the proxy alone."""
    from l7fp.cli import deploy, pipeline
    from slowpath import server

    wanted = [parse_listen(item) for item in listen]
    if len(files) == 1 and deploy.is_bundle(files[0]):
        policy = deploy.read(files[0]).policy
    else:
        policy = pipeline.classified(files)[0]
    identify = server.identify_by_address(policy)
    listeners = []
    for address, port, service_port in wanted:
        try:
            sock = server.listen(address, port)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {address}:{port}: {os.strerror(error.errno or 0)}",
                hint="choose another with --listen",
            ) from error
        listeners.append(server.Listener(sock=sock, port=service_port, identify=identify))
    where = ", ".join(f"{a}:{item.sock.getsockname()[1]}" for (a, _, _), item in zip(wanted, listeners, strict=True))
    server.run(server.serve(policy, listeners, ready=lambda _: click.echo(f"ready: slow path alone on {where}")))
    return 0
