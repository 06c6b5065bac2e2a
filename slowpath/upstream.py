"""One upstream connection: sends requests, reads responses, and says when it may be used again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol, cast

from slowpath.body import ChunkedDecoder
from slowpath.http1 import Framing, Rejected, ResponseHead, parse_response
from slowpath.memo import Memo
from slowpath.retry import Failure

_MEMO_HEAD = 1024
_responses: Memo[bytes, ResponseHead] = Memo(512)


class Sink(Protocol):
    """Who waits for the response. `done` marks its end; afterwards the connection is the sink's to `finish`."""

    def informational(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""

    def response_head(self, head: ResponseHead, framing: Framing, data: bytes, done: bool) -> None:
        """The head, and what of the payload came with it."""

    def response_data(self, data: bytes, done: bool) -> None:
        """More payload, chunked coding removed."""

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """101: `data` and all that follows (`tunnel_data`) is another protocol's."""

    def tunnel_data(self, data: bytes) -> None:
        """Bytes after 101."""

    def tunnel_eof(self) -> None:
        """The server has nothing more to send after 101."""

    def upstream_failed(self, failure: Failure) -> None:
        """The response will not come, or not to its end. The connection is closed."""

    def upstream_writable(self, writable: bool) -> None:
        """Whether more request bytes are welcome."""


class State(IntEnum):
    """What the next byte from the server is."""

    IDLE = 0
    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    EOF = 4
    TUNNEL = 5
    DONE = 6


_STATE = {Framing.LENGTH: State.LENGTH, Framing.CHUNKED: State.CHUNKED, Framing.EOF: State.EOF}


class UpstreamConnection(asyncio.Protocol):
    """`left` is what remains of a LENGTH body. `reused`: has carried a response before."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_is_head",
        "_keep_alive",
        "_max_head",
        "_on_lost",
        "_tunnel",
        "left",
        "reused",
        "since",
        "sink",
        "sock",
        "state",
        "transport",
        "write_paused",
    )

    def __init__(
        self, sock: socket.socket, *, max_head: int, on_lost: Callable[[UpstreamConnection], None] | None = None
    ) -> None:
        self.sock = sock
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.sink: Sink | None = None
        self.state = State.IDLE
        self.left = 0
        self.reused = False
        self.since = 0.0
        self.write_paused = False
        self._max_head = max_head
        self._on_lost = on_lost
        self._buffer = b""
        self._decoder: ChunkedDecoder | None = None
        self._is_head = False
        self._keep_alive = True
        self._tunnel = False

    # --- requests -------------------------------------------------------------------------------

    def expect(self, sink: Sink, *, is_head: bool, tunnel: bool = False) -> None:
        """The next response belongs to `sink`. `tunnel`: 101 is acceptable."""
        self.sink = sink
        self.state = State.HEAD
        self._is_head = is_head
        self._tunnel = tunnel

    def finish(self) -> bool:
        """The sink is through with it: True if it can carry another request, else it is closed."""
        self.sink = None
        if self.state is not State.DONE or not self._keep_alive or self.transport.is_closing():
            self.close()
            return False
        self.state = State.IDLE
        self.reused = True
        return True

    def close(self) -> None:
        """Close at once; the sink is not told."""
        self.sink = None
        if not self.transport.is_closing():
            self.transport.abort()

    def stale(self) -> bool:
        """Whether the server has closed it, or sent something nobody asked for, unnoticed by the loop so far."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    # --- responses ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        sink = self.sink
        match self.state:
            case State.HEAD:
                self._head(data)
            case State.LENGTH:
                self._length_data(data)
            case State.CHUNKED:
                self._chunked(data)
            case State.EOF if sink is not None:
                sink.response_data(data, False)
            case State.TUNNEL if sink is not None:
                sink.tunnel_data(data)
            case _:  # nobody asked for this
                self._keep_alive = False
                if sink is None:
                    self.close()

    def _head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > self._max_head:
                    self._fail(Failure.PROTOCOL)
                else:
                    self._buffer = data
                return
            raw = data[:end] if end < len(data) else data
            data = data[end:]
            head = _responses.get(raw)
            if head is None:
                try:
                    if len(raw) > self._max_head:
                        raise Rejected(502, "response_head_too_large")
                    head = parse_response(raw)
                except Rejected:
                    self._fail(Failure.PROTOCOL)
                    return
                if len(raw) <= _MEMO_HEAD:
                    _responses.put(raw, head)
            if head.status >= 200:
                break
            sink = self.sink
            if sink is None:
                return
            if head.status == 101:
                self._switch(sink, head, data)
                return
            sink.informational(head)
            if not data:
                return
        self._body(head, data)

    def _switch(self, sink: Sink, head: ResponseHead, data: bytes) -> None:
        if not self._tunnel:
            self._fail(Failure.PROTOCOL)
            return
        self._keep_alive = False
        self.state = State.TUNNEL
        sink.switched(head, data)

    def _body(self, head: ResponseHead, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            return
        self._keep_alive = head.keep_alive
        framing = head.body_of(is_head=self._is_head)
        if framing is Framing.LENGTH:
            left = head.length - len(data)
            if left > 0:
                self.left = left
                self.state = State.LENGTH
                sink.response_head(head, framing, data, False)
                return
            if left < 0:
                self._keep_alive = False
                data = data[: head.length]
            self.state = State.DONE
            sink.response_head(head, framing, data, True)
        elif framing is Framing.NONE:
            if data:
                self._keep_alive = False
            self.state = State.DONE
            sink.response_head(head, framing, b"", True)
        elif framing is Framing.CHUNKED:
            self._decoder = decoder = ChunkedDecoder()
            try:
                payload = decoder.feed(data)
            except Rejected:
                self._fail(Failure.PROTOCOL)
                return
            self._chunks_done(decoder)
            sink.response_head(head, framing, payload, decoder.done)
        else:
            self._keep_alive = False
            self.state = State.EOF
            sink.response_head(head, framing, data, False)

    def _length_data(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            return
        if len(data) > self.left:
            self._keep_alive = False
            data = data[: self.left]
        self.left -= len(data)
        if self.left == 0:
            self.state = State.DONE
        sink.response_data(data, self.left == 0)

    def body_taken(self) -> None:
        """The rest of a LENGTH body was read from the socket by someone else."""
        self.left = 0
        self.state = State.DONE

    def _chunks_done(self, decoder: ChunkedDecoder) -> None:
        if decoder.done:
            self._decoder = None
            self.state = State.DONE
            if decoder.rest:
                self._keep_alive = False
        else:
            self.state = State.CHUNKED

    def _chunked(self, data: bytes) -> None:
        decoder, sink = self._decoder, self.sink
        if decoder is None or sink is None:
            return
        try:
            payload = decoder.feed(data)
        except Rejected:
            self._fail(Failure.PROTOCOL)
            return
        self._chunks_done(decoder)
        if payload or decoder.done:
            sink.response_data(payload, decoder.done)

    def _fail(self, failure: Failure) -> None:
        sink = self.sink
        self.close()
        if sink is not None:
            sink.upstream_failed(failure)

    # --- the transport's side -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def eof_received(self) -> bool:
        sink = self.sink
        if self.state is State.TUNNEL and sink is not None:
            sink.tunnel_eof()
            return True
        if self.state is State.EOF and sink is not None:
            self.state = State.DONE
            sink.response_data(b"", True)
        elif self.state not in (State.IDLE, State.DONE):
            self._fail(Failure.RESET)
        self._keep_alive = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep_alive = False
        sink, self.sink = self.sink, None
        if self._on_lost is not None:
            self._on_lost(self)
        if sink is not None and self.state is not State.DONE:
            sink.upstream_failed(Failure.RESET)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.sink is not None:
            self.sink.upstream_writable(False)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.sink is not None:
            self.sink.upstream_writable(True)
