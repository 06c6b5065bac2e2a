"""Finding network namespaces, and making sockets in them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpath.agent import namespaces as module
from slowpath.agent.namespaces import NamespaceTable
from tests.kernel.conftest import Cgroup, Namespace


@pytest.fixture
def table(cgroup: Cgroup) -> Iterator[NamespaceTable]:
    """Looks at the test's cgroup only."""
    made = NamespaceTable(cgroup.path, netns_dirs=())
    yield made
    made.close()


def test_a_namespace_is_found_by_its_processes_and_forgotten_when_they_are_gone(
    cgroup: Cgroup, table: NamespaceTable, netns_pair: tuple[Namespace, Namespace]
) -> None:
    child = cgroup.child("pod")
    process = child.popen(["sleep", "60"], netns_fd=netns_pair[0].fd)
    found, gone = table.scan()
    assert [n.cookie for n in found] == [netns_pair[0].cookie]
    assert (table.scan(), gone) == (([], []), [])
    process.kill()
    process.wait()
    lost = [[n.cookie for n in table.scan()[1]] for _ in range(module.ABSENT_SCANS)]
    assert lost == [[], [], [netns_pair[0].cookie]]  # not at the first scan without them


def test_named_namespaces_are_found_without_processes(cgroup: Cgroup, netns_pair: tuple[Namespace, Namespace]) -> None:
    table = NamespaceTable(cgroup.path)
    names = {n.name for n in table.scan()[0]}
    assert {space.name for space in netns_pair} <= names
    table.close()


def test_a_namespace_may_be_learnt_from_one_process(
    cgroup: Cgroup, table: NamespaceTable, netns_pair: tuple[Namespace, Namespace]
) -> None:
    process = cgroup.popen(["sleep", "60"], netns_fd=netns_pair[1].fd)
    found = table.admit_pid(process.pid)
    assert found
    assert found.cookie == netns_pair[1].cookie
    assert table.admit_pid(process.pid) is None
    process.kill()
    process.wait()
    assert table.admit_pid(process.pid) is None


def test_listeners_answer_inside_and_only_there(table: NamespaceTable, netns_pair: tuple[Namespace, Namespace]) -> None:
    here = netns_pair[0]
    table._consider(Path(f"/run/netns/{here.name}"), os.fstat(here.fd).st_ino, [])
    namespace = table.by_inode[os.fstat(here.fd).st_ino]
    table.listen(namespace)
    for address, port in (("127.0.0.1", namespace.port4), ("::1", namespace.port6)):
        here.call(lambda address=address, port=port: socket.create_connection((address, port)).close())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port))


def test_an_address_belongs_to_the_namespace_that_has_it(
    cgroup: Cgroup, netns_pair: tuple[Namespace, Namespace]
) -> None:
    table = NamespaceTable(cgroup.path)
    table.scan()
    for space in netns_pair:
        for address in (space.address4, space.address6):
            owner = table.owner(address)
            assert owner
            assert owner.cookie == space.cookie
    assert table.owner("127.0.0.1") is table.own
    assert table.owner("127.5.5.5") is table.own
    assert table.owner("::1") is table.own
    assert table.owner("203.0.113.7") is None
    assert table.owner("2001:db8::7") is None
    table.close()


def test_the_table_holds_nothing_of_a_namespace_it_has_forgotten(
    cgroup: Cgroup, table: NamespaceTable, netns_pair: tuple[Namespace, Namespace]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    process = cgroup.popen(["sleep", "60"], netns_fd=netns_pair[0].fd)
    [namespace] = table.scan()[0]
    table.listen(namespace)
    process.kill()
    process.wait()
    gone = [lost for _ in range(module.ABSENT_SCANS) for lost in table.scan()[1]]
    assert gone == [namespace]
    table.forget(namespace)
    assert len(os.listdir("/proc/self/fd")) == before
