"""Upstream connections of the proxy: made in the server's network namespace, tagged as the agent's."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

from l7fp.ir.model import Endpoint
from slowpath.agent.namespaces import Namespace, NamespaceTable

SLOW_PATH = 0  # slot id of an upstream connection that is in no pool


def family(address: str) -> int:
    """Address family of a literal address."""
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


async def connect_upstream(
    namespaces: NamespaceTable,
    namespace: Namespace,
    endpoint: tuple[str, int],
    timeout_s: float,
    tag: Callable[[int], None],
) -> socket.socket:
    """A connected, non-blocking socket. `tag` is called with its file descriptor before it connects:
    capture and backstop know the agent's own sockets by that, and by nothing that others could forge.

    Raises OSError; TimeoutError is one.
    """
    sock = namespaces.socket(namespace, family(endpoint[0]))
    try:
        tag(sock.fileno())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, endpoint)
    except BaseException:
        sock.close()
        raise
    return sock


class AgentConnector:
    """`slowpath.interfaces.Connector`: local endpoints from inside their namespace, others from our own."""

    def __init__(self, namespaces: NamespaceTable, tag: Callable[[int, int], None]) -> None:
        self._namespaces = namespaces
        self._tag = tag

    async def connect(self, endpoint: Endpoint, timeout_ms: int) -> socket.socket:
        """See `Connector`."""
        namespace = self._namespaces.owner(endpoint.address) or self._namespaces.own
        return await connect_upstream(
            self._namespaces,
            namespace,
            (endpoint.address, endpoint.port),
            timeout_ms / 1000,
            lambda fd: self._tag(fd, SLOW_PATH),
        )
