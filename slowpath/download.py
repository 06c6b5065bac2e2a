"""The rest of a large response body, spliced from server to client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slowpath.splice import Splice
from slowpath.upstream import UpstreamConnection

if TYPE_CHECKING:
    from slowpath.client import ClientConnection


class Download:
    """Moves what is left of `up`'s LENGTH body, promised to the client's ledger, as soon as the client's
    transport has written all it holds.

    `before_last` is called before the last bytes are written, `on_done(ok)` once unless cancelled; `up` is at the
    end of its message then, or unusable.
    """

    __slots__ = ("_before_last", "_cancelled", "_client", "_on_done", "_splice", "_up")

    def __init__(
        self,
        client: ClientConnection,
        up: UpstreamConnection,
        *,
        before_last: Callable[[], None],
        on_done: Callable[[bool], None],
    ) -> None:
        self._client = client
        self._up = up
        self._before_last = before_last
        self._on_done = on_done
        self._splice: Splice | None = None
        self._cancelled = False
        up.transport.pause_reading()
        client.when_flushed(self._begin)

    def _begin(self) -> None:
        if self._cancelled:
            return
        client, up = self._client, self._up
        self._splice = Splice(
            client.server.loop, up.sock, client.sock, up.left, before_write=self._before_write, on_done=self._done
        )

    def _before_write(self, n: int, last: bool) -> None:
        self._client.ledger.promise(n)
        self._client.touch()
        if last:
            self._before_last()

    def _done(self, ok: bool) -> None:
        if ok:
            self._up.transport.resume_reading()
            self._up.body_taken()
        self._on_done(ok)

    def cancel(self) -> None:
        """Stop; on_done is not called."""
        self._cancelled = True
        if self._splice is not None:
            self._splice.cancel()
