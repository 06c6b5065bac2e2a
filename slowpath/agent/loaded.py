"""`Kernel` over a loaded instance: each operation is one view of the loader's, or one system call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l7fp import abi
from l7fp.ir.model import Workload
from l7fp.loader.live import Live
from l7fp.loader.maps import QueueView
from l7fp.loader.ring import Event
from slowpath.agent.kernel import SockState
from slowpath.agent.tables import ConnTable, EndpointTable, SlotTable


class LoadedKernel:
    """See `Kernel`. Valid from the moment the loader's maps are open until they are closed."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.conns = ConnTable(live.conns)
        self.slots = SlotTable(live.slots)
        self.endpoints = EndpointTable(live.endpoint_states)
        self._storage = live.maps["sock_storage"]
        self._ids = live.maps["conn_ids"]

    def sock_state(self, fd: int) -> SockState | None:
        """See `Kernel`."""
        record: Mapping[str, Any] | None = self._storage.get(fd)
        if record is None:
            return None
        return SockState(
            kind=record["kind"],
            id=record["id"],
            workload=record["workload"],
            orig_ip=record["orig_ip"],
            orig_port=record["orig_port"],
            source_ip=record["source_ip"],
            flags=record["flags"],
        )

    def tag_upstream(self, fd: int, slot_id: int) -> None:
        """See `Kernel`."""
        self._storage.set(fd, {"kind": abi.SockKind.UPSTREAM, "id": slot_id})

    def tag_listener(self, fd: int) -> None:
        """See `Kernel`."""
        self._storage.set(fd, {"kind": abi.SockKind.LISTENER})

    def ctl(self, op: abi.CtlOp, id: int, arg: int = 0) -> tuple[int, int]:
        """See `Kernel`."""
        return self._live.ctl(op, id, arg)

    def endpoint_id(self, address: str, port: int) -> int:
        """See `Kernel`."""
        return self._live.endpoint_id(address, port)

    def pool_pop(self, endpoint: int) -> int | None:
        """See `Kernel`."""
        return self._pool(endpoint).pop()

    def pool_push(self, endpoint: int, slot_id: int) -> bool:
        """See `Kernel`."""
        return _push(self._pool(endpoint), slot_id)

    def _pool(self, endpoint: int) -> QueueView:
        stack: QueueView | None = self._live.maps["pools"].stack(endpoint)
        if stack is None:
            raise LookupError(f"endpoint {endpoint} has no pool")
        return stack

    def conn_id_pop(self) -> int | None:
        """See `Kernel`."""
        found: int | None = self._ids.pop()
        return found

    def conn_id_push(self, conn_id: int) -> bool:
        """See `Kernel`."""
        return _push(self._ids, conn_id)

    def set_listener(self, cookie: int, port4: int, port6: int) -> None:
        """See `Kernel`."""
        self._live.set_listener(cookie, port4, port6)

    def drop_listener(self, cookie: int) -> None:
        """See `Kernel`."""
        self._live.remove_listener(cookie)

    def protect_netns(self, fd: int) -> None:
        """See `Kernel`."""
        self._live.protect_netns(fd)

    def event_fd(self) -> int:
        """See `Kernel`."""
        return self._live.events().fileno()

    def read_events(self, limit: int) -> list[Event]:
        """See `Kernel`."""
        return self._live.events().read(limit)

    def set_event_mask(self, mask: int) -> None:
        """See `Kernel`."""
        self._live.config["event_mask"][0] = mask

    def stats(self) -> dict[int, int]:
        """See `Kernel`."""
        sums: list[int] = self._live.maps["stats"].sums()
        return {reason: count for reason, count in enumerate(sums) if count}

    def workloads(self) -> dict[int, Workload]:
        """See `Kernel`."""
        return self._live.rescan().found

    def stop_capture(self) -> None:
        """From now on connections go where they want to, past the agent."""
        for name in ("protected", "captured"):
            view = self._live.maps[name]
            for key in view.items():
                view.delete(key)


def _push(queue: QueueView, value: int) -> bool:
    try:
        queue.push(value)
    except OSError:  # E2BIG: full
        return False
    return True
