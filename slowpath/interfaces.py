"""What the proxy and whoever owns its sockets (the agent, or `slowpath.server`) promise each other.

The owner accepts client connections, tells who they are (`FlowInfo`), keeps account of
their bytes (`Ledger`) and opens upstream sockets (`Connector`). The proxy enforces the
policy on them and offers a `ClientHandle` per connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from l7fp.ir.model import Endpoint, HeaderEdits

if TYPE_CHECKING:
    from l7fp.ir.interp import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowInfo:
    """A client connection: where it wanted to go and who it is.

    `port` and `destination_ip` are the original destination. `conn_id` is the owner's own
    number. `peer` is the client's IP address in text form, without a port.
    """

    port: int
    source: Source
    destination_ip: str = ""
    conn_id: int = 0
    peer: str = ""


class Ledger(Protocol):
    """Byte account of one client connection, from which the kernel tells when it may take over again.

    All calls come from the event loop's thread.
    """

    def promise(self, n: int) -> None:
        """`n` bytes are about to be handed to the client socket. Always called first."""

    def settle(self, n: int) -> None:
        """`n` bytes received from the client belong to requests that are over.

        Called before the last bytes of the answer are written (after them only where an answer
        was complete before its request was), never in the middle of a request, and never when the
        connection will be closed.
        """

    def fast_busy(self) -> bool:
        """Whether a transaction that the kernel carries for this connection is not over yet.

        While it holds the proxy neither answers later requests nor forwards them.
        """

    def on_fast_idle(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, soon after `fast_busy` has become false."""


class NullLedger:
    """The account of a connection that the kernel never carries."""

    __slots__ = ()

    def promise(self, n: int) -> None:
        """Nothing to note."""

    def settle(self, n: int) -> None:
        """Nothing to note."""

    def fast_busy(self) -> bool:
        """Never."""
        return False

    def on_fast_idle(self, callback: Callable[[], None]) -> None:
        """At once: it is always idle."""
        callback()


NULL_LEDGER = NullLedger()


class Connector(Protocol):
    """Opens upstream sockets."""

    async def connect(self, endpoint: Endpoint, timeout_ms: int) -> socket.socket:
        """A connected, non-blocking socket with TCP_NODELAY. Raises OSError (TimeoutError included)."""


class ClientHandle(Protocol):
    """A client connection in the proxy's hands, as its owner sees it. `proxy.ClientConnection` is one.

    The three methods that write do so for a transaction that the *kernel* carried: they promise their
    bytes to the ledger and settle nothing. They may be called while `fast_busy`; only one at a time.
    """

    flow: FlowInfo
    conflicted: Callable[[], bool] | None
    """Asked before each request: whether somebody whom `flow.source` does not describe has sent on the connection."""
    on_open: Callable[[], None] | None
    """Called once when the connection is set up; before, the methods that write refuse."""
    on_eof: Callable[[], None] | None
    """Called once when the client has closed its sending side."""
    on_closed: Callable[[], None] | None
    """Called once when the socket has been closed, whatever the cause."""

    def reply_now(self, status: int, code: str) -> bool:
        """Answer a failed kernel transaction (503, 504), without a body because it may have been a HEAD.
        False if the connection is gone or cannot take it."""

    def relay_response(
        self,
        upstream: socket.socket,
        *,
        is_head: bool,
        edits: tuple[HeaderEdits, ...],
        on_done: Callable[[bool], None],
        timeout_ms: int | None = None,
    ) -> bool:
        """Read one whole response, head included, from `upstream` and send it to the client.

        Any 1xx come first; 101 counts as invalid (502), for the kernel does not forward requests that ask
        for it. `on_done(reusable)` is called once: True if `upstream` stands at a message boundary and
        may be used again. The proxy reads a duplicate and never closes `upstream`, which the owner must
        not read meanwhile. False, without on_done, if the connection cannot take it.
        """

    def relay_raw(
        self, upstream: socket.socket, *, total: Callable[[], int | None], on_done: Callable[[bool], None]
    ) -> bool:
        """Copy bytes from `upstream` to the client as they are, until `total()` of them were copied.

        `total()` is asked after each piece and when `poke` is called; None: not known yet. `on_done(ok)`
        is called once: ok False if either side failed. The client connection is closed in that case.
        """

    def poke(self) -> None:
        """`total()` of a relay_raw under way may have changed."""

    def abort(self) -> None:
        """Reset the client connection now."""

    def close(self) -> None:
        """Close when what is under way is done; at once when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Bounds and habits of the proxy. Sizes in bytes, times in milliseconds.

    `trust_forwarded`: keep the client's x-forwarded-for and x-forwarded-proto and append to the former;
    else they are replaced. Inside a mesh clients are workloads, so the default is to keep.
    """

    max_head: int = 65536
    max_target: int = 8192
    max_headers: int = 256
    max_replay_body: int = 65536
    max_drain: int = 262144
    high_water: int = 262144
    max_pipelined: int = 65536
    head_timeout_ms: int = 60_000
    client_idle_timeout_ms: int = 3_600_000
    stream_idle_timeout_ms: int = 3_600_000
    pool_max_idle: int = 256
    pool_max_connections: int = 1024
    pool_idle_timeout_ms: int = 60_000
    pool_max_waiting: int = 1024
    linger_ms: int = 1_000
    memo_entries: int = 4096
    splice_at_least: int = 262144
    trust_forwarded: bool = True


DEFAULT_OPTIONS = Options()
