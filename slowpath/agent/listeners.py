"""Listeners in every namespace with managed processes: opened, told to BPF, accepted from, closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from slowpath.agent.kernel import Kernel
from slowpath.agent.namespaces import Namespace, NamespaceTable


class Listeners:
    """`accept` takes over waiting connections of a listener. With `protect` the backstop goes up in every
    namespace that has listeners, too: servers live there."""

    def __init__(
        self,
        kernel: Kernel,
        namespaces: NamespaceTable,
        loop: asyncio.AbstractEventLoop,
        accept: Callable[[socket.socket], None],
        *,
        protect: bool,
    ) -> None:
        self.failures: dict[str, str] = {}  # namespace name -> why it has no listener
        self._kernel = kernel
        self._namespaces = namespaces
        self._loop = loop
        self._accept = accept
        self._protect = protect
        self._pending = {namespaces.own.inode: namespaces.own}

    def scan(self) -> bool:
        """Look for namespaces; whether any came or went."""
        new, gone = self._namespaces.scan()
        for namespace in new:
            self._pending[namespace.inode] = namespace
        for namespace in gone:
            self._pending.pop(namespace.inode, None)
            self.failures.pop(namespace.name, None)
            self._drop(namespace)
            self._namespaces.forget(namespace)
        for namespace in list(self._pending.values()):
            self._open(namespace)
        return bool(new or gone)

    def admit_pid(self, pid: int) -> bool:
        """A process was refused for want of a listener; whether its namespace is new."""
        namespace = self._namespaces.admit_pid(pid)
        if namespace is None:
            return False
        self._open(namespace)
        return True

    def _open(self, namespace: Namespace) -> None:
        try:
            self._namespaces.listen(namespace)
            if self._protect:
                self._kernel.protect_netns(namespace.fd)
        except OSError as error:  # its loopback may come up later: the next scan tries again
            self._pending[namespace.inode] = namespace
            self.failures[namespace.name] = error.strerror or str(error)
            return
        self._pending.pop(namespace.inode, None)
        self.failures.pop(namespace.name, None)
        for listener in namespace.listeners:
            self._kernel.tag_listener(listener.fileno())
            self._loop.add_reader(listener.fileno(), self._accept, listener)
        self._kernel.set_listener(namespace.cookie, namespace.port4, namespace.port6)

    def close(self) -> None:
        """Stop accepting; whoever waits is refused."""
        for namespace in self._namespaces.by_inode.values():
            self._drop(namespace)

    def _drop(self, namespace: Namespace) -> None:
        self._kernel.drop_listener(namespace.cookie)
        # before the sockets are closed: the loop would go on to watch a number that belongs to another one by then
        for listener in namespace.listeners:
            self._loop.remove_reader(listener.fileno())

    def status(self) -> list[dict[str, object]]:
        """One entry per namespace."""
        return [
            {
                "name": n.name,
                "cookie": n.cookie,
                "port4": n.port4,
                "port6": n.port6,
                "failure": self.failures.get(n.name, ""),
            }
            for n in self._namespaces.by_inode.values()
        ]
