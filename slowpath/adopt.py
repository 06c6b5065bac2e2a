"""Answers that the kernel began and the proxy ends: a response it declined, or the rest of a body."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from l7fp.ir.model import HeaderEdits
from slowpath.body import LAST_CHUNK, chunk
from slowpath.download import Download
from slowpath.headers import response_head
from slowpath.http1 import Framing, ResponseHead
from slowpath.replies import Reply, before_response
from slowpath.retry import Failure
from slowpath.splice import Splice
from slowpath.upstream import UpstreamConnection

if TYPE_CHECKING:
    from slowpath.client import ClientConnection

_NEVER = float("inf")


class AdoptedResponse:
    """Relays one whole response from a socket that stays its owner's (a duplicate is read).

    The request went by the kernel: it was HTTP/1.1, complete, wants the connection kept and did not
    ask for an upgrade, so 101 is as invalid as any other nonsense (502).
    """

    def __init__(
        self,
        client: ClientConnection,
        upstream: socket.socket,
        is_head: bool,
        edits: tuple[HeaderEdits, ...],
        on_done: Callable[[bool], None],
        timeout_ms: int | None,
    ) -> None:
        self.deadline = _NEVER
        self._client = client
        self._edits = edits
        self._on_done = on_done
        self._mode = Framing.NONE
        self._started = False
        self._over = False
        self._download: Download | None = None
        self._up = UpstreamConnection(upstream.dup(), max_head=client.server.options.max_head)
        self._up.expect(self, is_head=is_head)
        if timeout_ms is not None:
            self.deadline = client.server.loop.time() + timeout_ms / 1000
            client.server.deadlines.watch(self)
        client.server.spawn(self._open())

    async def _open(self) -> None:
        try:
            await self._client.server.loop.create_connection(lambda: self._up, sock=self._up.sock)
        except OSError:
            self._up.sock.close()
            self.upstream_failed(Failure.RESET)
            return
        if self._over:
            self._up.close()

    def _done(self, reusable: bool, *, close: bool) -> None:
        if self._over:
            return
        self._over = True
        self._client.server.deadlines.forget(self)
        if self._download is not None:
            self._download.cancel()
            self._download = None
        if self._connected:
            reusable = reusable and self._up.finish()
            self._up.close()  # the duplicate
        self._on_done(reusable)
        self._client.kernel_done(close=close)

    @property
    def _connected(self) -> bool:
        return cast(asyncio.Transport | None, self._up.transport) is not None

    def informational(self, head: ResponseHead) -> None:
        self._client.send(response_head(head, Framing.NONE, (), http10=False, close=False))

    def response_head(self, head: ResponseHead, framing: Framing, data: bytes, done: bool) -> None:
        client = self._client
        self._started = True
        self._mode = Framing.CHUNKED if framing is Framing.EOF else framing
        client.server.stats.statuses[head.status // 100] += 1
        out = response_head(head, framing, self._edits, http10=False, close=client.closing)
        client.send(out + self._frame(data, done))
        if done:
            self._finish()
        elif self._up.left >= client.server.options.splice_at_least:
            self._download = Download(client, self._up, before_last=lambda: None, on_done=self._downloaded)

    def response_data(self, data: bytes, done: bool) -> None:
        self._client.touch()
        self._client.send(self._frame(data, done))
        if done:
            self._finish()

    def _frame(self, data: bytes, done: bool) -> bytes:
        if self._mode is not Framing.CHUNKED:
            return data
        return (chunk(data) if data else b"") + (LAST_CHUNK if done else b"")

    def _finish(self) -> None:
        self._client.server.stats.outcomes["via_upstream"] += 1
        self._done(True, close=False)

    def _downloaded(self, ok: bool) -> None:
        self._download = None
        if ok:
            self._finish()
        else:
            self._break()

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """Never called: no tunnel was asked for. Nor are the next two."""

    def tunnel_data(self, data: bytes) -> None: ...

    def tunnel_eof(self) -> None: ...

    def _break(self) -> None:
        self._client.abort()
        self._done(False, close=True)

    def upstream_failed(self, failure: Failure) -> None:
        """Server gone, or not making sense."""
        if self._over:
            return
        self._client.server.stats.upstream_failures[failure.value] += 1
        if self._started:
            self._break()
            return
        status = 502 if failure is Failure.PROTOCOL else 503
        self._answer(status, before_response(failure.value))

    def expired(self, now: float) -> None:
        """The request took too long."""
        if self._over:
            return
        if self._started:
            self._break()
        else:
            self._answer(504, "response_timeout")

    def _answer(self, status: int, code: str) -> None:
        stats = self._client.server.stats
        stats.outcomes[code] += 1
        stats.statuses[5] += 1
        self._client.send(Reply(status, code).render())  # no body: it may answer a HEAD
        self._done(False, close=False)

    def upstream_writable(self, writable: bool) -> None:
        """Nothing is written to it."""

    def client_writable(self, writable: bool) -> None:
        """The client takes more, or should be left alone for a while."""
        if self._download is not None or not self._connected or self._up.transport.is_closing():
            return
        if writable:
            self._up.transport.resume_reading()
        else:
            self._up.transport.pause_reading()

    def client_gone(self) -> None:
        """Nobody waits any more."""
        self._done(False, close=True)


class RawRelay:
    """Copies bytes as they are until `total()` of them were copied."""

    def __init__(
        self,
        client: ClientConnection,
        upstream: socket.socket,
        total: Callable[[], int | None],
        on_done: Callable[[bool], None],
    ) -> None:
        self._client = client
        self._sock = upstream
        self._total = total
        self._on_done = on_done
        self._copied = 0
        self._over = False
        self._splice: Splice | None = None
        client.when_flushed(self._begin)

    def _begin(self) -> None:
        if self._over or self._check():
            return
        self._splice = Splice(
            self._client.server.loop,
            self._sock,
            self._client.sock,
            None,
            before_write=self._before_write,
            on_flushed=self.poke,
            on_done=self._source_ended,
        )

    def _source_ended(self, ok: bool) -> None:
        self._splice = None
        if not (ok and self._check()):
            self._done(False)

    def _before_write(self, n: int, last: bool) -> None:
        self._client.ledger.promise(n)
        self._client.touch()
        self._copied += n

    def poke(self) -> None:
        """`total()` may have changed, or more was copied."""
        if not self._over:
            self._check()

    def _check(self) -> bool:
        total = self._total()
        if total is None or self._copied < total:
            return False
        if self._splice is not None and self._splice.moved < self._copied:
            return False  # `poke` will come
        self._done(True)
        return True

    def _done(self, ok: bool) -> None:
        if self._over:
            return
        self._over = True
        if self._splice is not None:
            self._splice.cancel()
            self._splice = None
        if not ok:
            self._client.abort()
        self._on_done(ok)
        self._client.kernel_done(close=not ok)

    def client_gone(self) -> None:
        """Nobody waits any more."""
        self._done(False)

    def client_writable(self, writable: bool) -> None:
        """Of no interest: the relay waits for the socket itself."""
