"""The plain connector: TCP from where the process is."""

from __future__ import annotations

import asyncio
import socket

from l7fp.ir.model import Endpoint


class TcpConnector:
    """See `interfaces.Connector`."""

    async def connect(self, endpoint: Endpoint, timeout_ms: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout_ms / 1000):
                await asyncio.get_running_loop().sock_connect(sock, (endpoint.address, endpoint.port))
        except BaseException:
            sock.close()
            raise
        return sock
