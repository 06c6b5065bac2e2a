"""The agent's admin socket: one JSON request a line, JSON lines in answer.

Requests: {"op": "status"}, {"op": "events"} (a stream, until the caller hangs up), {"op": "reload",
"bundle": PATH}, {"op": "drain"}. Every answer has "ok"; a failure has "error" and perhaps "hint".
The socket is the owner's alone (0600, in a folder of 0700): there is no other authentication.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from l7fp.errors import L7fpError, UnavailableError
from slowpath.agent.events import Events

RUN_DIR = Path("/run/l7fp")
MAX_LINE = 65536

Json = dict[str, Any]
Operation = Callable[[Json], Awaitable[Json]]


def socket_path(instance: str) -> Path:
    """Where the agent of `instance` answers."""
    return RUN_DIR / f"{instance}.sock"


class AdminServer:
    """`operations` by name; `events` streams what the kernel reports."""

    def __init__(self, path: Path, operations: dict[str, Operation], events: Events) -> None:
        self._path = path
        self._operations = operations
        self._events = events
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. `UnavailableError` if another agent does so already."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _answers(self._path):
            raise UnavailableError(
                f"an agent already serves {self._path}", hint="stop it, or choose another --instance"
            )
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        except OSError as error:
            raise UnavailableError(f"cannot listen on {self._path}: {error.strerror}") from error
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop, and hang up on everybody."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            while line := await reader.readline():
                await self._request(line, reader, writer)
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # hung up, or a line too long
        finally:
            self._clients.discard(task)
            writer.close()

    async def _request(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("op"), str):
            answer: Json = {"ok": False, "error": 'a request is a JSON object with "op"'}
        elif request["op"] == "events":
            await self._stream(reader, writer)
            return
        elif request["op"] not in self._operations:
            known = ", ".join(sorted([*self._operations, "events"]))
            answer = {"ok": False, "error": f"unknown op {request['op']!r}", "hint": f"one of {known}"}
        else:
            try:
                answer = {"ok": True, **await self._operations[request["op"]](request)}
            except L7fpError as error:
                answer = {"ok": False, "error": error.message, "hint": error.hint}
            except OSError as error:
                answer = {"ok": False, "error": str(error), "hint": ""}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subscription = self._events.subscribe()
        hung_up = asyncio.ensure_future(reader.read())
        try:
            writer.write(b'{"ok": true}\n')
            while not hung_up.done():
                waiting = asyncio.ensure_future(subscription.queue.get())
                done, _ = await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
                if waiting not in done:
                    waiting.cancel()
                    break
                batch = [waiting.result()]
                while not subscription.queue.empty():
                    batch.append(subscription.queue.get_nowait())
                lost, subscription.lost = subscription.lost, 0
                lines = [json.dumps(event._asdict()) for event in batch]
                if lost:
                    lines.append(json.dumps({"lost": lost}))
                writer.write("\n".join(lines).encode() + b"\n")
                await writer.drain()
        finally:
            hung_up.cancel()
            self._events.unsubscribe(subscription)


def _answers(path: Path) -> bool:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def ask(instance: str, request: Json, *, timeout: float = 10.0) -> Json:
    """One request to the agent of `instance`. `UnavailableError` if none answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(socket_path(instance)))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b"null")
        except (OSError, ValueError) as error:
            raise UnavailableError(f"no agent of instance {instance!r} answers", hint="l7fp run") from error
    if not isinstance(answer, dict):
        raise UnavailableError(f"the agent of instance {instance!r} hung up")
    return answer
