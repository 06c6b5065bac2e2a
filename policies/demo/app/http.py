"""HTTP/1.1 for the demo's services: just enough server and client, kept-alive, on asyncio streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` have lower-case names; of repeated ones the last counts."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A status, a JSON value, and headers beside the usual ones."""

    status: int
    value: Any
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return body


async def serve(address: str, port: int, handler: Handler) -> None:
    """Answer requests at (address, port) until cancelled."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, headers = await _read_head(reader)
                method, path, _ = first.split(" ")
                response = await handler(Request(method, path, headers, await _read_body(reader, headers)))
                writer.write(_encode(response, method == "HEAD"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ValueError):
            pass  # the client has gone, does not speak HTTP, or the process ends
        finally:
            writer.close()

    server = await asyncio.start_server(connection, address, port)
    async with server:
        await server.serve_forever()


def _encode(response: Response, head_only: bool) -> bytes:
    body = json.dumps(response.value).encode() + b"\n"
    headers = {"content-type": "application/json", "content-length": str(len(body)), **response.headers}
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else body)


class Client:
    """Requests to one service over kept-alive connections. One retry, on a fresh connection, of a GET."""

    def __init__(self, host: str, address: str, port: int) -> None:
        self._host, self._address, self._port = host, address, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        """Status and decoded JSON (None where the answer is no JSON)."""
        try:
            return await self._once(path, headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            return await self._once(path, headers)

    async def _once(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._address, self._port)
        try:
            lines = [f"GET {path} HTTP/1.1", f"host: {self._host}", *(f"{k}: {v}" for k, v in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            first, answer = await _read_head(reader)
            body = await _read_body(reader, answer)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        try:
            return int(first.split(" ")[1]), json.loads(body)
        except ValueError:
            return int(first.split(" ")[1]), None
