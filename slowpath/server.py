"""The proxy on its own: one process, one listening socket per service port, no kernel part.

    python -m slowpath.server POLICY.ir --listen 127.0.0.1:15001=9080

serves what a client of service port 9080 would get.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l7fp.errors import L7fpError
from l7fp.ir.interp import Source
from l7fp.ir.model import Policy
from l7fp.ir.parser import parse_policy
from slowpath.connect import TcpConnector
from slowpath.interfaces import DEFAULT_OPTIONS, NULL_LEDGER, Connector, FlowInfo, Options
from slowpath.proxy import ProxyServer

_BACKLOG = 1024
_ACCEPTS = 64  # per wake-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`sock` listens and stands for service port `port`; `destination_ip` likewise, if it matters.
    `identify` tells who a client is, by its address."""

    sock: socket.socket
    port: int
    destination_ip: str = ""
    identify: Callable[[str], Source] = lambda ip: Source(ip=ip)


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. Port 0: any. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    sock.setblocking(False)
    return sock


def identify_by_address(policy: Policy) -> Callable[[str], Source]:
    """Who has an address, as far as the policy's workloads tell."""
    known: dict[str, Source] = {}
    for workload in policy.workloads:
        for ip in workload.addresses:
            clash = ip in known
            known[ip] = Source(
                workload=workload.name,
                namespace=workload.namespace,
                principal=workload.principal,
                labels=workload.labels,
                ip=ip,
                conflict=clash,
            )
    return lambda ip: known.get(ip) or Source(ip=ip)


class StandAlone:
    """A `ProxyServer` with its acceptors. `proxy` is there for statistics and policy swaps."""

    def __init__(
        self,
        policy: Policy,
        listeners: Iterable[Listener],
        *,
        connector: Connector | None = None,
        options: Options = DEFAULT_OPTIONS,
    ) -> None:
        self.proxy = ProxyServer(policy, connector or TcpConnector(), options=options)
        self._listeners = tuple(listeners)
        for listener in self._listeners:
            self.proxy.loop.add_reader(listener.sock.fileno(), self._accept, listener)

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, address = listener.sock.accept()
            except OSError:  # BlockingIOError: that was all; others: gone before we came, or no descriptors left
                return
            ip = address[0].removeprefix("::ffff:")
            flow = FlowInfo(
                port=listener.port, source=listener.identify(ip), destination_ip=listener.destination_ip, peer=ip
            )
            self.proxy.serve(sock, flow, NULL_LEDGER)

    async def close(self, *, drain_s: float = 0.0) -> None:
        """Accept nothing more, then close the proxy."""
        for listener in self._listeners:
            self.proxy.loop.remove_reader(listener.sock.fileno())
            listener.sock.close()
        await self.proxy.close(drain_s=drain_s)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on the fastest event loop installed, in a process of its own."""
    # Requests make few cycles; looking for them among everything imported costs milliseconds each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


async def serve(
    policy: Policy,
    listeners: Iterable[Listener],
    *,
    connector: Connector | None = None,
    options: Options = DEFAULT_OPTIONS,
    ready: Callable[[StandAlone], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` is called once connections are accepted."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    alone = StandAlone(policy, listeners, connector=connector, options=options)
    if ready is not None:
        ready(alone)
    await stop.wait()
    await alone.close(drain_s=1.0)


def main(arguments: list[str] | None = None) -> int:
    """Command line of the stand-alone proxy; for tests and benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m slowpath.server", description=__doc__)
    parser.add_argument("policy", type=Path, help="a policy in textual IR")
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS:PORT=SERVICE_PORT")
    options = parser.parse_args(arguments)
    try:
        policy = parse_policy(options.policy.read_text())
        identify = identify_by_address(policy)
        listeners = [_listener(item, identify) for item in options.listen]
    except (OSError, ValueError, L7fpError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    def ready(alone: StandAlone) -> None:
        for listener in listeners:
            print("listening", listener.sock.getsockname()[1], listener.port, flush=True)

    run(serve(policy, listeners, ready=ready))
    return 0


def _listener(item: str, identify: Callable[[str], Source]) -> Listener:
    """`ADDRESS:PORT=SERVICE_PORT`. Raises ValueError and OSError."""
    where, _, service_port = item.partition("=")
    address, _, port = where.rpartition(":")
    sock = listen(address.strip("[]"), int(port))
    return Listener(sock=sock, port=int(service_port), identify=identify)


if __name__ == "__main__":
    sys.exit(main())
