"""What the agent needs of the kernel, and the loader as its provider.

The rest of the agent sees `Kernel` only; unit tests give it one made of plain memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from l7fp import abi
from l7fp.ir.model import Workload
from l7fp.loader.ring import Event
from slowpath.agent.tables import ConnTable, EndpointTable, SlotTable

Words = tuple[int, int, int, int]
"""An address as BPF keeps it: four words in network byte order, IPv4 as ::ffff:a.b.c.d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SockState:
    """What the agent reads of a socket's `sock_state`."""

    kind: int
    id: int
    workload: int = 0
    orig_ip: Words = (0, 0, 0, 0)
    orig_port: int = 0
    source_ip: Words = (0, 0, 0, 0)
    flags: int = 0


class Kernel(Protocol):
    """Shared memory and operations of the loaded programs. Ids are those of `l7fp.abi`."""

    conns: ConnTable
    slots: SlotTable
    endpoints: EndpointTable

    def sock_state(self, fd: int) -> SockState | None:
        """`sock_state` of a socket of ours; None if it has none."""

    def tag_upstream(self, fd: int, slot_id: int) -> None:
        """Mark a socket, before it connects, as an upstream connection of the agent."""

    def tag_listener(self, fd: int) -> None:
        """Mark a socket as the agent's listener: connections are captured to no other."""

    def ctl(self, op: abi.CtlOp, id: int, arg: int = 0) -> tuple[int, int]:
        """Run the control program: (result, slot state before)."""

    def pool_pop(self, endpoint: int) -> int | None:
        """Take the top slot id off the pool."""

    def pool_push(self, endpoint: int, slot_id: int) -> bool:
        """Put a slot id on the pool; False if it is full."""

    def endpoint_id(self, address: str, port: int) -> int:
        """The endpoint's number, allocated together with its pool at first sight and stable since."""

    def conn_id_pop(self) -> int | None:
        """Take a free connection id."""

    def conn_id_push(self, conn_id: int) -> bool:
        """Give a connection id back; False if the queue is full."""

    def set_listener(self, cookie: int, port4: int, port6: int) -> None:
        """Tell where captured connections of the namespace with that cookie go."""

    def drop_listener(self, cookie: int) -> None:
        """From now on connects of managed services in that namespace are refused."""

    def protect_netns(self, fd: int) -> None:
        """Make protected endpoints in the network namespace `fd` refuse what does not come through the agent."""

    def event_fd(self) -> int:
        """File descriptor that is readable when there are events."""

    def read_events(self, limit: int) -> list[Event]:
        """At most `limit` events, oldest first."""

    def set_event_mask(self, mask: int) -> None:
        """Which `abi.EventType`s (bits) the programs report."""

    def stats(self) -> dict[int, int]:
        """Counters by `abi.Reason`, summed over processors; zeros left out."""

    def workloads(self) -> dict[int, Workload]:
        """Cgroup id -> workload, of the policy in force and the cgroups that exist now. The programs learn it too."""
