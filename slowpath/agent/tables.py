"""The mmapped tables that BPF and the agent share, as columns.

A column is a strided memoryview: `slots.state[7]` is the field `state` of record 7, read or
written by one aligned machine access, without a copy of the record. Records and their single
writers are described in `l7fp.abi`.
"""

from __future__ import annotations

from typing import Protocol

from l7fp import abi

_OWNER = 0xFFFFFFFF
_LIVE = abi.SlotFlag.BUSY | abi.SlotFlag.DEAD


class Records(Protocol):
    """An array of records in shared memory; `l7fp.loader.maps.MmapView` is one."""

    def __getitem__(self, name: str) -> memoryview:
        """The column of a field."""

    def clear(self, index: int) -> None:
        """Zero a record."""


class ConnTable:
    """`conns`: one client connection each. The agent writes `acked` and `sent` only."""

    __slots__ = ("acked", "diverted", "flags", "forwarded", "id", "passed", "replied", "sent", "slot")

    def __init__(self, records: Records) -> None:
        for name in self.__slots__:
            setattr(self, name, records[name])

    id: memoryview
    passed: memoryview
    acked: memoryview
    sent: memoryview
    slot: memoryview
    flags: memoryview
    forwarded: memoryview
    replied: memoryview
    diverted: memoryview

    def closed(self, conn_id: int) -> bool:
        """Whether C of `conn_id` has gone, or its record already serves another connection."""
        at = index(conn_id)
        return bool(self.id[at] != conn_id or self.flags[at] & abi.ConnFlag.CLOSED)


class SlotTable:
    """`slots`: one pooled upstream connection each. The agent writes `expect` and `endpoint`."""

    __slots__ = (
        "conn", "dest", "endpoint", "expect", "is_head", "passed", "ready", "records", "relay_done", "requests",
        "resp_mode", "rule", "started_ns", "state", "status", "timeout_ms", "version",
    )  # fmt: skip

    def __init__(self, records: Records) -> None:
        self.records = records
        for name in self.__slots__:
            if name != "records":
                setattr(self, name, records[name])

    records: Records
    state: memoryview
    started_ns: memoryview
    passed: memoryview
    requests: memoryview
    expect: memoryview
    ready: memoryview
    endpoint: memoryview
    rule: memoryview
    dest: memoryview
    version: memoryview
    timeout_ms: memoryview
    is_head: memoryview
    resp_mode: memoryview
    status: memoryview
    relay_done: memoryview
    conn: memoryview

    def clear(self, slot_id: int) -> None:
        """Zero the record: the slot is idle, belongs to nobody and is in no pool yet."""
        self.records.clear(slot_id)

    def busy_for(self, slot_id: int, conn_id: int) -> bool:
        """Whether a transaction of `conn_id` is under way on the slot.

        One that the agent has claimed counts: its answer (504) has not been written yet. The agent
        kills the slot once it has.
        """
        state = self.state[slot_id]
        return bool(state & _OWNER == conn_id and state & _LIVE == abi.SlotFlag.BUSY)


class EndpointTable:
    """`endpoint_states`: the agent writes `usable` and `idle`."""

    __slots__ = ("empty", "idle", "requests", "usable")

    def __init__(self, records: Records) -> None:
        for name in self.__slots__:
            setattr(self, name, records[name])

    usable: memoryview
    idle: memoryview
    empty: memoryview
    requests: memoryview


def index(conn_id: int) -> int:
    """Place of a connection in `conns`."""
    return conn_id & (abi.MAX_CONNS - 1)


def owner(state: int) -> int:
    """Connection id in a slot's state."""
    return state & _OWNER
