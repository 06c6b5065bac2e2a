"""One client connection: requests in order, one exchange at a time, everything bounded."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from l7fp.ir.model import HeaderEdits
from slowpath.adopt import AdoptedResponse, RawRelay
from slowpath.body import RequestBody
from slowpath.exchange import Exchange
from slowpath.http1 import Rejected, check_partial
from slowpath.interfaces import FlowInfo, Ledger
from slowpath.replies import Reply, local_reply
from slowpath.splice import Splice, ended
from slowpath.tunnel import Tunnel

if TYPE_CHECKING:
    from slowpath.proxy import ProxyServer


class ClientConnection(asyncio.Protocol):
    """The client's side of the proxy; an `interfaces.ClientHandle` for its owner.

    Reading stops while any HOLD_ reason is set. Whatever is written is promised to the ledger first.
    """

    HOLD_UPSTREAM: ClassVar[int] = 1  # the server takes no more
    HOLD_UNSENT: ClassVar[int] = 2  # body bytes wait for a connection
    HOLD_PIPELINE: ClassVar[int] = 4  # enough requests wait
    HOLD_SPLICE: ClassVar[int] = 8  # someone else reads the socket

    def __init__(self, server: ProxyServer, sock: socket.socket, flow: FlowInfo, ledger: Ledger) -> None:
        self.server = server
        self.sock = sock
        self.flow = flow
        self.ledger = ledger
        self.conflicted: Callable[[], bool] | None = None
        self.on_open: Callable[[], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.since = server.loop.time()
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._kernel: AdoptedResponse | RawRelay | None = None
        self._tunnel: Tunnel | None = None
        self._body: RequestBody | None = None  # of the current request, while it comes
        self._splice: Splice | None = None
        self._holds = 0
        self._write_paused = False
        self._flushed: Callable[[], None] | None = None
        self._eof = False
        self._ending = False  # no further requests; input is thrown away
        self._connected = False
        self._waiting = False  # for the kernel's transaction to end
        self._running = False
        self._version = server.version
        self._router = server.version.router(flow)

    # --- input ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            if self._body is not None:
                self._feed(data)
                return
        elif self._tunnel is not None:
            self.touch()
            self._tunnel.client_data(data)
            return
        elif self._ending:
            return
        fresh = not self._buffer
        self._buffer = data if fresh else self._buffer + data
        if exchange is None and self._kernel is None and not self._waiting:
            self._run()
            if fresh and self._buffer and self._exchange is None:
                self.touch()  # a head begins: its time starts now
        if len(self._buffer) > self.server.options.max_pipelined and (
            self._exchange is not None or self._waiting or self._write_paused or self._kernel is not None
        ):
            self.hold(self.HOLD_PIPELINE)

    def _run(self) -> None:
        """Serve what is in the buffer, one request after the other, as far as possible now."""
        if self._running:
            return
        self._running = True
        try:
            while self._buffer and self._exchange is None and not self._ending and not self._write_paused:
                if self._kernel is not None or self._wait_for_kernel() or not self._next():
                    break
        finally:
            self._running = False
        if self._holds & self.HOLD_PIPELINE and len(self._buffer) <= self.server.options.max_pipelined:
            self.resume(self.HOLD_PIPELINE)
        if self._eof and self._idle and not self._waiting and not self._write_paused:
            # What is left of the buffer is no whole request and never will be. But the kernel's last answer may
            # still be on its way to the client.
            self._waiting = True
            self.ledger.on_fast_idle(self.close_after_flush)

    @property
    def _idle(self) -> bool:
        return not (self._exchange or self._tunnel or self._kernel)

    def _wait_for_kernel(self) -> bool:
        if not self.ledger.fast_busy():
            return False
        if not self._waiting:
            self._waiting = True
            self.ledger.on_fast_idle(self._kernel_idle)
        return True

    def _kernel_idle(self) -> None:
        self._waiting = False
        if self._connected:
            self._run()

    def _next(self) -> bool:
        """Start on the first request in the buffer; False if it is not all there or not acceptable."""
        server = self.server
        if self.conflicted is not None and self.conflicted():
            self.flow = replace(self.flow, source=replace(self.flow.source, conflict=True))
            self.conflicted = None  # once is for ever
            self._router = self._version.router(self.flow)
        if self._version is not server.version:
            self._version = server.version
            self._router = self._version.router(self.flow)
        data = self._buffer
        prepared = self._router.known(data)
        size = len(data)
        if prepared is not None:
            self._buffer = b""
        else:
            start = 2 if data[:2] == b"\r\n" else 0  # one empty line before a request (RFC 9112 §2.2)
            size = data.find(b"\r\n\r\n", start) + 4
            try:
                if size < 4 or size > server.options.max_head:
                    check_partial(data[start:], server.options.max_head)
                    return False
                raw = data[start:size]
                prepared = self._router.known(raw) or self._router.prepare(raw)
            except Rejected as error:
                self._reject(error)
                return False
            self._buffer = data[size:]
        self.touch()
        self._exchange = exchange = Exchange(self, prepared, size)
        if exchange.request_done:
            exchange.start()
            return True
        self._body = RequestBody(prepared.head)
        exchange.start()
        if self._buffer and self._exchange is exchange:
            rest, self._buffer = self._buffer, b""
            self._feed(rest)
        if self._eof and self._body is not None and self._exchange is exchange:
            self._cut_short(exchange)
        return True

    def _feed(self, data: bytes) -> None:
        """Body bytes of the current request."""
        exchange, body = self._exchange, self._body
        if exchange is None or body is None:
            return
        self.touch()
        try:
            payload, rest, done = body.take(data)
        except Rejected as error:
            self._ending = True
            self._body = None
            exchange.request_broken(error.status, error.code)
            return
        exchange.consumed += len(data) - len(rest)
        if done:
            self._buffer = rest
            self._body = None
        exchange.request_data(payload, done)
        if not done and self._exchange is exchange:
            if exchange.drained > self.server.options.max_drain:
                self.exchange_done(close=True)
            elif body.left >= self.server.options.splice_at_least:
                self._splice_body(exchange, body.left)

    def _cut_short(self, exchange: Exchange) -> None:
        """The client has ended in the middle of a request. What it was answered before must still reach it."""
        if exchange.answered:
            self.exchange_done(close=True)
        elif exchange.started:
            self.abort()
        else:
            exchange.client_gone()
            self._body = None
            self.exchange_done(close=True)

    def _splice_body(self, exchange: Exchange, left: int) -> None:
        up = exchange.upstream_for_splice
        if up is None or self._splice is not None or self._buffer:
            return
        self.hold(self.HOLD_SPLICE)

        def before_write(n: int, last: bool) -> None:
            self.touch()
            exchange.consumed += n

        self._splice = Splice(
            self.server.loop, self.sock, up.sock, left, before_write=before_write, on_done=self._uploaded
        )

    def _uploaded(self, ok: bool) -> None:
        self._splice = None
        exchange = self._exchange
        if exchange is None:
            return
        if ok:
            self._body = None
            exchange.request_data(b"", True)
            self.resume(self.HOLD_SPLICE)
        elif ended(self.sock):
            self._cut_short(exchange)
        else:
            exchange.upload_failed()

    def _reject(self, error: Rejected) -> None:
        self.server.stats.outcomes[error.code] += 1
        self.server.stats.statuses[error.status // 100] += 1
        self.send(local_reply(error.status, error.code).render(close=True))
        self._linger()

    # --- output ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write `data`, promised first."""
        if data:
            self.ledger.promise(len(data))
            self.write(data)

    def write(self, data: bytes) -> None:
        """Write `data`, which was promised."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def send_eof(self) -> None:
        """Nothing more will be written."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back when all that was written has left the transport; never if the client goes first."""
        self.transport.set_write_buffer_limits(high=0)
        if self._write_paused:
            self._flushed = callback
        else:
            self._call_flushed(callback)

    def _call_flushed(self, callback: Callable[[], None]) -> None:
        self.transport.set_write_buffer_limits(high=self.server.options.high_water)
        if self.transport.get_write_buffer_size():
            self.when_flushed(callback)
        elif self._connected:
            callback()

    def pause_writing(self) -> None:
        self._write_paused = True
        writer = self._exchange or self._tunnel or self._kernel
        if writer is not None:
            writer.client_writable(False)

    def resume_writing(self) -> None:
        self._write_paused = False
        self.touch()
        callback, self._flushed = self._flushed, None
        if callback is not None:
            self._call_flushed(callback)
        else:
            writer = self._exchange or self._tunnel or self._kernel
            if writer is not None:
                writer.client_writable(True)
            else:
                self._run()

    # --- what exchanges ask for -----------------------------------------------------------------

    def hold(self, reason: int) -> None:
        """Read nothing more until `resume`."""
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def resume(self, reason: int) -> None:
        """Drop reasons to hold."""
        if self._holds:
            self._holds &= ~reason
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def ending(self) -> bool:
        """Whether no further request will be served."""
        return self._ending

    @property
    def splicing(self) -> bool:
        """Whether a request body is on its way behind the transports' backs."""
        return self._splice is not None

    @property
    def closing(self) -> bool:
        """Whether the answer to come is the last one."""
        return self.server.draining or self._ending or (self._eof and not self._buffer)

    def touch(self) -> None:
        """Something moved."""
        self.since = self.server.loop.time()

    def exchange_done(self, *, close: bool) -> None:
        """The current exchange is over, its answer written."""
        self._exchange = None
        in_body = self._body is not None
        self._body = None
        if self._splice is not None:
            self._splice.cancel()
            self._splice = None
        self.resume(self.HOLD_UPSTREAM | self.HOLD_UNSENT | self.HOLD_SPLICE)
        if close or self._ending:
            if in_body or self._buffer:
                self._linger()
            else:
                self.close_after_flush()
        elif self._buffer or self._eof:
            self._run()

    def tunnel_open(self, tunnel: Tunnel) -> None:
        """The protocol was switched: what the client has sent already belongs to the new one."""
        self._exchange = None
        self._tunnel = tunnel
        if self._buffer:
            tunnel.client_data(self._buffer)
            self._buffer = b""
        self.resume(self.HOLD_PIPELINE)
        if self._write_paused:
            tunnel.client_writable(False)
        if self._eof:
            tunnel.client_eof()

    # --- ends -----------------------------------------------------------------------------------

    def close_after_flush(self) -> None:
        """Close when what was written is out."""
        self._ending = True
        if self._connected and not self.transport.is_closing():
            self.transport.close()

    def _linger(self) -> None:
        """Say all was said, but read on for a moment: closing with unread input would reset the
        connection and could take the answer with it (RFC 9112 §9.6)."""
        self._ending = True
        self._buffer = b""
        if self.transport.is_closing():
            return
        if self._eof:
            self.transport.close()
            return
        self.transport.write_eof()
        self.resume(-1)
        self.server.loop.call_later(self.server.options.linger_ms / 1000, self.close_after_flush)

    def abort(self) -> None:
        """Reset the connection: a FIN could pass for the end of a response."""
        self._ending = True
        if not self._connected or self.transport.is_closing():
            return
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # gone already
        self.transport.abort()

    def close(self) -> None:
        """Close when what is under way is done; at once when nothing is."""
        if self._connected and self._idle:
            self.close_after_flush()
        else:
            self._ending = True

    def eof_received(self) -> bool:
        self._eof = True
        if self.on_eof is not None:
            self.on_eof()
        exchange = self._exchange
        if self._tunnel is not None:
            self._tunnel.client_eof()
        elif exchange is not None:
            if self._body is not None:
                self._cut_short(exchange)
        elif self._ending:
            return False
        elif not self._waiting and self._kernel is None:
            self._run()
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connected = True
        if self._ending:
            self.transport.close()
            return
        self.transport.set_write_buffer_limits(high=self.server.options.high_water)
        if self.on_open is not None:
            self.on_open()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected = False
        self._ending = True
        self._flushed = None
        writer = self._exchange or self._tunnel or self._kernel
        self._exchange = self._tunnel = self._kernel = None
        if self._splice is not None:
            self._splice.cancel()
            self._splice = None
        if writer is not None:
            writer.client_gone()
        self.server.forget(self)
        if self.on_closed is not None:
            self.on_closed()

    def sweep(self, now: float) -> None:
        """Enforce the idle limits."""
        options = self.server.options
        idle_ms = (now - self.since) * 1000
        if not self._idle:
            if idle_ms > options.stream_idle_timeout_ms:
                self.server.stats.outcomes["stream_idle_timeout"] += 1
                self.abort()
        elif self._waiting or self.ledger.fast_busy():
            return
        elif self._buffer and idle_ms > options.head_timeout_ms:
            self._reject(Rejected(408, "request_header_timeout"))
        elif idle_ms > options.client_idle_timeout_ms:
            self.close_after_flush()

    # --- the kernel's transactions --------------------------------------------------------------

    def _takes_kernel(self) -> bool:
        there = self._connected and not self._ending and not self.transport.is_closing()
        return there and self._idle

    def reply_now(self, status: int, code: str) -> bool:
        """See `interfaces.ClientHandle`."""
        if not self._takes_kernel():
            return False
        self.server.stats.outcomes[code] += 1
        self.server.stats.statuses[status // 100] += 1
        self.send(Reply(status, code).render())  # no body: the request may have been a HEAD
        return True

    def relay_response(
        self,
        upstream: socket.socket,
        *,
        is_head: bool,
        edits: tuple[HeaderEdits, ...],
        on_done: Callable[[bool], None],
        timeout_ms: int | None = None,
    ) -> bool:
        """See `interfaces.ClientHandle`."""
        if not self._takes_kernel():
            return False
        self._kernel = AdoptedResponse(self, upstream, is_head, edits, on_done, timeout_ms)
        return True

    def relay_raw(
        self, upstream: socket.socket, *, total: Callable[[], int | None], on_done: Callable[[bool], None]
    ) -> bool:
        """See `interfaces.ClientHandle`."""
        if not self._takes_kernel():
            return False
        self._kernel = RawRelay(self, upstream, total, on_done)
        return True

    def poke(self) -> None:
        """See `interfaces.ClientHandle`."""
        if isinstance(self._kernel, RawRelay):
            self._kernel.poke()

    def kernel_done(self, *, close: bool) -> None:
        """The relay for the kernel is over."""
        self._kernel = None
        if close or self._ending:
            self.close_after_flush()
        elif self._buffer or self._eof:
            self._run()
