"""Bytes from one socket to another through a pipe, without a copy in user space."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable

_PIPE_SIZE = 262144
_TURNS = 8  # reads per wake-up, so that one fast sender does not starve the others
_F_SETPIPE_SZ = 1031


def ended(sock: socket.socket) -> bool:
    """Whether the peer has said that it sends no more, or is gone."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Splice:
    """Moves `left` bytes (None: until `source` ends) from `source` to `target`.

    Both must be plain non-blocking sockets whose transports neither read (source) nor write (target)
    meanwhile; their descriptors are duplicated because event loops refuse to watch one that a
    transport owns. At most a pipe full of bytes is held, so each side paces the other.

    `before_write(n, last)` is called before `n` bytes are written, `on_flushed()` whenever all that
    was read has been written, `on_done(ok)` once, unless cancelled: ok False if either
    side failed, or `source` ended early.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        target: socket.socket,
        left: int | None,
        *,
        before_write: Callable[[int, bool], None],
        on_done: Callable[[bool], None],
        on_flushed: Callable[[], None] | None = None,
    ) -> None:
        self.left = left
        self.moved = 0
        self._loop = loop
        self._before_write = before_write
        self._on_done = on_done
        self._on_flushed = on_flushed
        self._piped = 0
        self._source = os.dup(source.fileno())
        self._target = os.dup(target.fileno())
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._in, _F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:
            pass  # the user's pipe quota: the default size does as well
        self._open = True
        self._writing = False
        loop.add_reader(self._source, self._readable)

    def cancel(self) -> None:
        """Stop, forgetting what is in the pipe; on_done is not called."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        for fd in (self._source, self._target, self._out, self._in):
            os.close(fd)

    def _finish(self, ok: bool) -> None:
        self.cancel()
        self._on_done(ok)

    def _readable(self) -> None:
        try:
            for _ in range(_TURNS):
                want = _PIPE_SIZE if self.left is None else min(self.left, _PIPE_SIZE)
                got = os.splice(self._source, self._in, want)
                if got == 0:
                    self._finish(self.left is None)
                    return
                self._piped = got
                if self.left is not None:
                    self.left -= got
                self._before_write(got, self.left == 0)
                if not self._open or not self._flush():
                    return
        except BlockingIOError:
            return
        except OSError:
            self._finish(False)

    def _flush(self) -> bool:
        """Empty the pipe; False if that must wait, or everything is done."""
        try:
            while self._piped:
                sent = os.splice(self._out, self._target, self._piped)
                self._piped -= sent
                self.moved += sent
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.remove_reader(self._source)
                self._loop.add_writer(self._target, self._writable)
            return False
        if self.left == 0:
            self._finish(True)
            return False
        if self._on_flushed is not None:
            self._on_flushed()
        return self._open

    def _writable(self) -> None:
        try:
            if self._flush():
                self._writing = False
                self._loop.remove_writer(self._target)
                self._loop.add_reader(self._source, self._readable)
        except OSError:
            self._finish(False)
