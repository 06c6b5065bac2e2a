"""Listeners follow the network namespaces that come and go."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from slowpath.agent.listeners import Listeners
from slowpath.agent.namespaces import ABSENT_SCANS, Namespace, NamespaceTable
from tests.unit.agent.memory import FakeKernel, in_loop


@in_loop
async def test_a_namespace_that_is_gone_leaves_nothing_to_watch(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    kernel = FakeKernel()
    table = NamespaceTable(tmp_path, netns_dirs=())
    listeners = Listeners(kernel, table, loop, lambda _: None, protect=False)
    listeners.scan()  # our own namespace
    listener = socket.create_server(("127.0.0.1", 0))
    number = listener.fileno()
    lost = Namespace(1, os.dup(table.own.fd), 77, "lost", listeners=(listener,), absent=ABSENT_SCANS)
    table.by_inode[lost.inode] = lost
    loop.add_reader(number, lambda: None)
    kernel.set_listener(77, 1, 0)

    assert listeners.scan()

    # a number that is still watched could not be used for the next connection
    assert not loop.remove_reader(number)
    assert listener.fileno() == -1
    assert 77 not in kernel.listeners
    listeners.close()
    table.close()  # the table closes what it opened itself
