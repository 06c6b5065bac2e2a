"""Network namespaces of managed processes: finding them, and making sockets inside them.

A namespace is known by its inode; BPF knows it by its cookie. The agent holds an open file of
each, and two listeners inside (IPv4 and IPv6 loopback), so that a client reaches the agent
without leaving its namespace. A socket belongs for ever to the namespace it was made in, so
only its creation needs `setns`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from l7fp.errors import UnavailableError
from l7fp.loader import netns

LISTEN_BACKLOG = 65535  # the kernel caps it at net.core.somaxconn; fast connections don't wait for accept()
ABSENT_SCANS = 3  # scans without a process before a namespace is given up
FULL_SCAN_EVERY = 10  # scans; in between only processes that are new are looked at


@dataclass(slots=True)
class Namespace:
    """A known network namespace. `port4` and `port6` are 0 where its loopback has no such address."""

    inode: int
    fd: int
    cookie: int
    name: str
    listeners: tuple[socket.socket, ...] = ()
    port4: int = 0
    port6: int = 0
    absent: int = 0


class NamespaceTable:
    """All known namespaces. Methods block for microseconds only and must run in one thread.

    `cgroup` is the managed cgroup's directory; `netns_dirs` hold named namespaces.
    """

    def __init__(self, cgroup: Path, netns_dirs: tuple[Path, ...] = (Path("/run/netns"),)) -> None:
        self._cgroup = cgroup
        self._dirs = netns_dirs
        self._seen: dict[int, int] = {}  # pid -> namespace inode
        self._scans = 0
        self._owners: dict[str, Namespace | None] = {}
        try:
            home = netns.open_netns(os.getpid())
            self._home_inode = netns.inode(home)
            self.own = Namespace(self._home_inode, home, netns.cookie(), "own")
        except OSError as error:
            raise UnavailableError("cannot open this process's network namespace", hint=str(error)) from error
        self.by_inode: dict[int, Namespace] = {self.own.inode: self.own}

    # -- making sockets

    def inside(self, namespace: Namespace) -> AbstractContextManager[None]:
        """Run a block in `namespace`; nothing in it may suspend."""
        return nullcontext() if namespace.inode == self._home_inode else netns.entered(namespace.fd)

    def socket(self, namespace: Namespace, family: int) -> socket.socket:
        """A non-blocking TCP socket that lives in `namespace`. OSError if the namespace is unusable."""
        with self.inside(namespace):
            return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def listen(self, namespace: Namespace) -> None:
        """Open the namespace's listeners. One address family is enough; none raises OSError."""
        opened, failure = [], OSError("no loopback address")
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                sock = self.socket(namespace, family)
            except OSError as error:
                failure = error
                continue
            try:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, 0))
                sock.listen(LISTEN_BACKLOG)  # without TCP_FASTOPEN: data in the SYN would lose its attribution
            except OSError as error:
                failure = error
                sock.close()
                continue
            opened.append(sock)
            if family == socket.AF_INET6:
                namespace.port6 = sock.getsockname()[1]
            else:
                namespace.port4 = sock.getsockname()[1]
        if not opened:
            raise failure
        namespace.listeners = tuple(opened)

    # -- finding namespaces

    def scan(self) -> tuple[list[Namespace], list[Namespace]]:
        """Look around once: (namespaces that are new, namespaces that are gone). `forget` those that are gone."""
        full = self._scans % FULL_SCAN_EVERY == 0
        self._scans += 1
        if full:
            self._owners.clear()  # addresses come and go
        present = {self.own.inode}
        new: list[Namespace] = []
        for path, inode in self._named():
            present.add(inode)
            self._consider(path, inode, new)
        seen: dict[int, int] = {}
        for pid in self._pids():
            path = Path(f"/proc/{pid}/ns/net")
            inode = 0 if full else self._seen.get(pid, 0)
            if not inode:
                try:
                    inode = path.stat().st_ino
                except OSError:
                    continue
            seen[pid] = inode
            present.add(inode)
            self._consider(path, inode, new)
        self._seen = seen
        if new:
            self._owners.clear()
        gone = []
        for namespace in list(self.by_inode.values()):
            namespace.absent = 0 if namespace.inode in present else namespace.absent + 1
            if namespace.absent >= ABSENT_SCANS:
                gone.append(namespace)
        return new, gone

    def admit_pid(self, pid: int) -> Namespace | None:
        """The namespace of process `pid` if it was not known yet, else None."""
        new: list[Namespace] = []
        path = Path(f"/proc/{pid}/ns/net")
        try:
            self._consider(path, path.stat().st_ino, new)
        except OSError:
            return None
        self._owners.clear()
        return new[0] if new else None

    def forget(self, namespace: Namespace) -> None:
        """Close what the agent holds of it, so that the kernel can free the namespace."""
        self.by_inode.pop(namespace.inode, None)
        self._owners.clear()
        for sock in namespace.listeners:
            sock.close()
        os.close(namespace.fd)

    def close(self) -> None:
        """Forget all."""
        for namespace in list(self.by_inode.values()):
            self.forget(namespace)

    def _named(self) -> Iterable[tuple[Path, int]]:
        for directory in self._dirs:
            try:
                entries = list(directory.iterdir())
            except OSError:
                continue
            for path in entries:
                try:
                    yield path, path.stat().st_ino
                except OSError:
                    continue

    def _pids(self) -> Iterable[int]:
        for directory, _, _ in os.walk(self._cgroup):
            try:
                text = Path(directory, "cgroup.procs").read_text()
            except OSError:
                continue
            for word in text.split():
                if word != "0":  # a process of another pid namespace
                    yield int(word)

    def _consider(self, path: Path, inode: int, new: list[Namespace]) -> None:
        if inode in self.by_inode:
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if netns.inode(fd) != inode:  # changed under us: the next scan will see
                os.close(fd)
                return
            name = path.name if path.parent in self._dirs else str(path)
            namespace = Namespace(inode, fd, netns.cookie(fd), name)
        except OSError:  # a file in the folder that is no namespace
            os.close(fd)
            return
        self.by_inode[inode] = namespace
        new.append(namespace)

    # -- whose address is it

    def owner(self, address: str) -> Namespace | None:
        """The namespace that has `address` on one of its interfaces; None if no known one does.

        Every namespace has loopback addresses; by convention an endpoint's loopback address is
        the agent's own. The agent's own namespace also wins where several have the address.
        """
        if address not in self._owners:
            ip = ipaddress.ip_address(address)
            known = [self.own] if ip.is_loopback else list(self.by_inode.values())
            self._owners[address] = next((n for n in known if self._has(n, ip)), None)
        return self._owners[address]

    def _has(self, namespace: Namespace, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        try:
            with self.socket(namespace, socket.AF_INET6 if ip.version == 6 else socket.AF_INET) as probe:
                probe.bind((str(ip), 0))
        except OSError:
            return False
        return True
