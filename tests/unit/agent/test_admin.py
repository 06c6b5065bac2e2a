"""The admin socket: requests and answers as JSON lines."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from l7fp.abi import EventType
from l7fp.errors import L7fpError, UnavailableError
from slowpath.agent import admin
from slowpath.agent.admin import AdminServer, Json
from slowpath.agent.events import Events
from tests.unit.agent.memory import FakeKernel, event, in_loop, until


async def status(request: Json) -> Json:
    return {"version": 3}


async def refuse(request: Json) -> Json:
    raise L7fpError("no such bundle", hint="look again")


class Setting:
    """A server, and a client's end of one connection."""

    def __init__(self, path: Path) -> None:
        self.kernel = FakeKernel()
        self.events = Events(self.kernel, asyncio.get_running_loop(), {})
        self.server = AdminServer(path, {"status": status, "reload": refuse}, self.events)
        self.path = path

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)

    async def ask(self, line: str) -> Any:
        self.writer.write(line.encode() + b"\n")
        return json.loads(await self.reader.readline())


@asynccontextmanager
async def setting(folder: Path) -> AsyncIterator[Setting]:
    at = Setting(folder / "run" / "x.sock")
    await at.server.start()
    await at.connect()
    try:
        yield at
    finally:
        at.writer.close()
        await at.writer.wait_closed()
        await at.server.close()


def test_every_request_has_an_answer(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async with setting(tmp_path) as at:
            assert await at.ask('{"op": "status"}') == {"ok": True, "version": 3}
            failure = await at.ask('{"op": "reload", "bundle": "x"}')
            assert failure == {"ok": False, "error": "no such bundle", "hint": "look again"}
            unknown = await at.ask('{"op": "dance"}')
            assert (unknown["ok"], unknown["hint"]) == (False, "one of events, reload, status")
            for line in ("", "[]", "{", '{"op": 7}', "null"):
                assert (await at.ask(line))["ok"] is False
            assert (await at.ask('{"op": "status"}'))["ok"]

    scenario()


def test_the_socket_is_the_owners_alone_and_goes_in_the_end(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async with setting(tmp_path) as at:
            assert stat.S_IMODE(at.path.stat().st_mode) == 0o600
            assert stat.S_IMODE(at.path.parent.stat().st_mode) == 0o700
            assert at.path.exists()
        assert not at.path.exists()

    scenario()


def test_a_second_agent_is_told_of_the_first_and_a_dead_ones_socket_is_no_obstacle(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        (tmp_path / "run").mkdir()
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(tmp_path / "run" / "x.sock"))
        dead.close()
        async with setting(tmp_path) as at:
            with pytest.raises(UnavailableError, match="already serves"):
                await AdminServer(at.path, {}, at.events).start()
            assert (await at.ask('{"op": "status"}'))["ok"]

    scenario()


def test_events_are_streamed_until_the_caller_hangs_up(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async with setting(tmp_path) as at:
            assert await at.ask('{"op": "events"}') == {"ok": True}
            at.kernel.pending = [event(EventType.REQUEST, status=200), event(EventType.REPLY, status=403)]
            at.events.consume()
            lines = [json.loads(await at.reader.readline()) for _ in range(2)]
            assert [line["status"] for line in lines] == [200, 403]
            assert at.kernel.mask
            at.writer.close()
            await until(lambda: not at.kernel.mask)

    scenario()


def test_asking_where_nobody_answers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "RUN_DIR", tmp_path)
    with pytest.raises(UnavailableError, match="no agent"):
        admin.ask("nobody", {"op": "status"})
