"""The server behind every executor that has real connections: its answer tells what it saw.

`python -m tests.conformance.backend PORT ADDRESS...` serves in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterable

from tests.conformance import wire
from tests.conformance.corpus import UPSTREAM_HEADERS

SEEN = "conformance-seen"
_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in UPSTREAM_HEADERS)


class Backend:
    """Listens on any number of loopback addresses, on one port. A context manager; serves on a thread of its own."""

    def __init__(self, addresses: Iterable[str], port: int = 0) -> None:
        self._sockets: list[socket.socket] = []
        self.port = port
        for address in addresses:
            assert address.startswith("127."), f"{address} is not of this machine"
            self._sockets.append(socket.create_server((address, self.port), backlog=128))
            self.port = self._sockets[0].getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Until `stop`."""
        self._stopped = asyncio.Event()
        servers = [await asyncio.start_server(_connection, sock=sock) for sock in self._sockets]
        self._ready.set()
        await self._stopped.wait()
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Backend:
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    address = writer.get_extra_info("sockname")[0]
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = json.dumps({SEEN: head.decode("latin-1"), "address": address})
            writer.write(f"HTTP/1.1 200 OK\r\n{_HEADERS}content-length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.close()


def seen(response: wire.Message) -> tuple[str, wire.Message] | None:
    """The address that was asked and the request it got; None for a response that the backend did not make."""
    if not response.body.startswith(b'{"' + SEEN.encode()):
        return None
    told = json.loads(response.body)
    return told["address"], wire.parse(told[SEEN].encode("latin-1"))


if __name__ == "__main__":
    with Backend(sys.argv[2:], int(sys.argv[1])):
        print("ready", flush=True)
        sys.stdin.read()
