"""The agent's view of the kernel as plain memory: what the maps hold, nothing of what programs do with it."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

from l7fp import abi
from l7fp.abi import CtlOp, SlotFlag
from l7fp.ir.model import Workload
from l7fp.loader.ring import Event
from slowpath.agent.kernel import SockState
from slowpath.agent.tables import ConnTable, EndpointTable, SlotTable


class FakeRecords:
    """An array of records in ordinary memory."""

    def __init__(self, name: str, length: int) -> None:
        self.layout = abi.BY_NAME[name]
        self.memory = memoryview(bytearray(self.layout.size * length))

    def __getitem__(self, name: str) -> memoryview:
        field = next(f for f in self.layout.fields if f.name == name)
        width = 8 if field.type == "u64" else 4
        words = self.memory.cast("Q" if width == 8 else "I")
        return words[self.layout.offset(name) // width :: self.layout.size // width]

    def clear(self, index: int) -> None:
        size = self.layout.size
        self.memory[index * size : (index + 1) * size] = bytes(size)


class FakeKernel:
    """Maps as Python values. `calls` lists the control program's runs."""

    def __init__(self) -> None:
        self.conns = ConnTable(FakeRecords("conn", abi.MAX_CONNS))
        self.slots = SlotTable(FakeRecords("slot", 256))
        self.endpoints = EndpointTable(FakeRecords("endpoint_state", 64))
        self.sockets: dict[int, SockState] = {}
        self.upstreams: dict[int, int] = {}
        self.pools: dict[int, list[int]] = defaultdict(list)
        self.ids: deque[int] = deque()
        self.known: dict[tuple[str, int], int] = {}
        self.listeners: dict[int, tuple[int, int]] = {}
        self.protected: list[int] = []
        self.pending: list[Event] = []
        self.mask = 0
        self.counters: dict[int, int] = {}
        self.calls: list[tuple[CtlOp, int]] = []
        self.refuse_push = False
        self.tagged_listeners: list[int] = []
        self.ready_at_connect = True

    def sock_state(self, fd: int) -> SockState | None:
        return self.sockets.get(fd)

    def tag_upstream(self, fd: int, slot_id: int) -> None:
        self.upstreams[fd] = slot_id
        if slot_id and self.ready_at_connect:
            self.slots.ready[slot_id] = 1

    def tag_listener(self, fd: int) -> None:
        self.tagged_listeners.append(fd)

    def ctl(self, op: CtlOp, id: int, arg: int = 0) -> tuple[int, int]:
        self.calls.append((op, id))
        before = self.slots.state[id]
        if op == CtlOp.KILL:
            self.slots.state[id] = before | SlotFlag.DEAD | SlotFlag.CLAIMED
        elif op == CtlOp.CLAIM:
            if before & 0xFFFFFFFF != arg or before & (SlotFlag.RESPONSE_STARTED | SlotFlag.DEAD):
                return 1, before
            self.slots.state[id] = before | SlotFlag.CLAIMED
        elif op == CtlOp.OFFER or (op == CtlOp.RELEASE and before & SlotFlag.REQUEST_DONE):
            self.slots.state[id] = 0
            return int(not self.pool_push(self.slots.endpoint[id], id)), before
        elif op == CtlOp.RELEASE:
            return 1, before
        return 0, before

    def pool_pop(self, endpoint: int) -> int | None:
        return self.pools[endpoint].pop() if self.pools[endpoint] else None

    def pool_push(self, endpoint: int, slot_id: int) -> bool:
        if self.refuse_push:
            return False
        self.pools[endpoint].append(slot_id)
        return True

    def endpoint_id(self, address: str, port: int) -> int:
        return self.known.setdefault((address, port), len(self.known))

    def conn_id_pop(self) -> int | None:
        return self.ids.popleft() if self.ids else None

    def conn_id_push(self, conn_id: int) -> bool:
        self.ids.append(conn_id)
        return True

    def set_listener(self, cookie: int, port4: int, port6: int) -> None:
        self.listeners[cookie] = (port4, port6)

    def drop_listener(self, cookie: int) -> None:
        self.listeners.pop(cookie, None)

    def protect_netns(self, fd: int) -> None:
        self.protected.append(fd)

    def event_fd(self) -> int:
        return -1

    def read_events(self, limit: int) -> list[Event]:
        out, self.pending = self.pending[:limit], self.pending[limit:]
        return out

    def set_event_mask(self, mask: int) -> None:
        self.mask = mask

    def stats(self) -> dict[int, int]:
        return self.counters

    def workloads(self) -> dict[int, Workload]:
        return {}


def event(type: int, **values: int) -> Event:
    """An event of that type, zero elsewhere."""
    fields = dict.fromkeys(Event._fields, 0) | {"type": type} | values
    return Event(**fields)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 20)

        asyncio.run(main())

    return run


async def until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.001)
