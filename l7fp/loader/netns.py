"""Network namespaces: run something in another one, and tell them apart.

A namespace belongs to a thread. `entered` moves the calling thread for the length of a with-block; sockets made in it
stay in that namespace for life.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
_SELF = "/proc/thread-self/ns/net"
_LIBC = ctypes.CDLL(None, use_errno=True)


def move_to(fd: int) -> None:
    """Move the calling thread to namespace `fd`, for good."""
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def open_netns(where: str | int) -> int:
    """fd of a namespace: of a process (its pid), a path, or a name that `ip netns` gave."""
    if isinstance(where, int):
        path = f"/proc/{where}/ns/net"
    else:
        path = where if "/" in where else f"/run/netns/{where}"
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """The calling thread is in namespace `fd` inside the block. Needs CAP_SYS_ADMIN."""
    home = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        move_to(fd)
        try:
            yield
        finally:
            move_to(home)
    finally:
        os.close(home)


def cookie(fd: int | None = None) -> int:
    """What `bpf_get_netns_cookie` returns in namespace `fd`, None for our own."""
    if fd is not None:
        with entered(fd):
            return cookie()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int(struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


def inode(fd: int) -> int:
    """The number that names the namespace in /proc and in the kernel's link records."""
    return os.fstat(fd).st_ino
