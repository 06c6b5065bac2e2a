"""After 101 (Switching Protocols): bytes both ways, paced by the slower side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slowpath.http1 import Framing, ResponseHead
from slowpath.retry import Failure
from slowpath.upstream import UpstreamConnection

if TYPE_CHECKING:
    from slowpath.client import ClientConnection


class Tunnel:
    """Joins a client connection to `up` until both sides have ended, or one is lost. `on_end` is called once.

    It is the upstream connection's sink; the client connection feeds it by `client_data` and `client_eof`.
    """

    __slots__ = ("_client", "_half", "_on_end", "_over", "_up")

    def __init__(self, client: ClientConnection, up: UpstreamConnection, on_end: Callable[[], None]) -> None:
        self._client = client
        self._up = up
        self._on_end = on_end
        self._half = False  # one side has ended
        self._over = False
        up.sink = self

    def client_data(self, data: bytes) -> None:
        """Bytes for the server."""
        if not self._up.transport.is_closing():
            self._up.transport.write(data)

    def client_eof(self) -> None:
        """The client has nothing more to send."""
        if not self._up.transport.is_closing():
            self._up.transport.write_eof()
        self._ended()

    def tunnel_data(self, data: bytes) -> None:
        self._client.touch()
        self._client.send(data)

    def tunnel_eof(self) -> None:
        self._client.send_eof()
        self._ended()

    def _ended(self) -> None:
        if not self._half:
            self._half = True
            return
        self._up.sink = None
        self._up.transport.close()  # not abort: what the client sent last may be on its way
        self._finish()

    def upstream_failed(self, failure: Failure) -> None:
        """The server is gone."""
        self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._on_end()
            self._client.close_after_flush()

    def upstream_writable(self, writable: bool) -> None:
        """Pace the client."""
        if writable:
            self._client.resume(self._client.HOLD_UPSTREAM)
        else:
            self._client.hold(self._client.HOLD_UPSTREAM)

    def client_writable(self, writable: bool) -> None:
        """Pace the server."""
        if self._up.transport.is_closing():
            return
        if writable:
            self._up.transport.resume_reading()
        else:
            self._up.transport.pause_reading()

    def client_gone(self) -> None:
        """The client's connection is lost."""
        if not self._over:
            self._up.close()
            self._finish()

    # No HTTP comes here any more.

    def informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, framing: Framing, data: bytes, done: bool) -> None: ...

    def response_data(self, data: bytes, done: bool) -> None: ...

    def switched(self, head: ResponseHead, data: bytes) -> None: ...
