"""Finding the cgroups of workloads. A plain folder stands in for the mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from l7fp.errors import LoadError
from l7fp.ir.model import Workload
from l7fp.loader import workloads

UID = "0f1e2d3c-aaaa-4bbb-8ccc-0123456789ab"


def _workload(cgroup: str, name: str = "ns/w") -> Workload:
    return Workload(name=name, namespace="ns", cgroup=cgroup)


@pytest.mark.parametrize(
    "path",
    [
        f"kubepods/burstable/pod{UID}",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice",
        f"system.slice/docker-1.scope/kubepods/pod{UID}",
    ],
)
def test_pods_are_found_under_every_cgroup_driver(tmp_path: Path, path: str) -> None:
    pod = tmp_path / path
    (pod / "cri-containerd-1.scope").mkdir(parents=True)
    (tmp_path / "podinfo.service").mkdir()
    scan = workloads.scan([_workload(f"pod:{UID}")], str(tmp_path))
    assert list(scan.found) == [pod.stat().st_ino]
    assert scan.missing == ()


def test_paths_are_below_the_mount_with_or_without_a_slash(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    scan = workloads.scan([_workload("/a/b", "one"), _workload("a", "two")], str(tmp_path))
    names = {number: w.name for number, w in scan.found.items()}
    assert names == {(tmp_path / "a/b").stat().st_ino: "one", (tmp_path / "a").stat().st_ino: "two"}


def test_paths_do_not_leave_the_mount(tmp_path: Path) -> None:
    root = tmp_path / "mount"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    assert workloads.scan([_workload("../outside")], str(root)).missing == ("ns/w",)


def test_what_is_not_there_is_named_and_what_has_no_cgroup_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    listed = [_workload("gone", "one"), _workload(f"pod:{UID}", "two"), _workload("file", "three"), _workload("")]
    scan = workloads.scan(listed, str(tmp_path))
    assert scan.found == {}
    assert scan.missing == ("one", "two", "three")


@pytest.mark.parametrize("pair", [("a/b", "/a//b/"), (f"pod:{UID}", f"pod:{UID.upper()}"), ("x/../a", "a")])
def test_one_cgroup_for_two_workloads_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(LoadError, match="one and two have the same cgroup"):
        workloads.check([_workload(pair[0], "one"), _workload(pair[1], "two")])


def test_workloads_without_cgroup_do_not_collide() -> None:
    workloads.check([_workload("", "one"), _workload("", "two"), _workload("a", "three"), _workload("a/b", "four")])
