"""What the machine says of itself: mounts, privileges, kernel release."""

from __future__ import annotations

import pytest

from l7fp.errors import UnavailableError, UsageError
from l7fp.loader import features, libbpf, mounts
from l7fp.loader.features import Answer
from l7fp.loader.pins import Pins

UNIFIED = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
HYBRID = (
    "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        (UNIFIED, "/sys/fs/cgroup"),
        (HYBRID, "/sys/fs/cgroup/unified"),
        ("none /mnt/odd\\040name cgroup2 rw 0 0\n", "/mnt/odd name"),
        ("none /run/cilium/cgroupv2 cgroup2 rw 0 0\n" + UNIFIED, "/sys/fs/cgroup"),
        ("sysfs /sys sysfs rw 0 0\n", None),
        ("", None),
    ],
)
def test_cgroup2_mount_is_found_in_every_layout(text: str, point: str | None) -> None:
    assert mounts.cgroup2_of(text) == point


def _status(*bits: int) -> str:
    return f"Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t{sum(1 << bit for bit in bits):016x}\n"


@pytest.mark.parametrize(
    ("bits", "answer", "missing"),
    [
        (range(41), Answer.YES, ""),
        ((12, 38, 39), Answer.YES, ""),
        ((12, 21), Answer.YES, ""),
        ((), Answer.NO, "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"),
        ((12, 39), Answer.NO, "CAP_PERFMON missing"),
        ((21,), Answer.NO, "CAP_NET_ADMIN missing"),
    ],
)
def test_privileges_are_read_from_the_capabilities(bits: tuple[int, ...], answer: Answer, missing: str) -> None:
    found = features.privileges(_status(*bits))
    assert found.answer is answer
    assert missing in found.detail
    assert bool(found.mend) == (answer is Answer.NO)


@pytest.mark.parametrize(
    ("release", "answer"),
    [
        ("6.1.0-13-amd64", Answer.YES),
        ("6.18.44", Answer.YES),
        ("7.0.0", Answer.YES),
        ("6.0.19", Answer.NO),
        ("5.15.0-91-generic", Answer.NO),
        ("weird", Answer.INCONCLUSIVE),
    ],
)
def test_kernel_floor(release: str, answer: Answer) -> None:
    assert features.kernel(release).answer is answer


def _fails(number: int) -> int:
    raise OSError(number, "reason")


@pytest.mark.parametrize(
    ("number", "answer"),
    [(22, Answer.NO), (95, Answer.NO), (524, Answer.NO), (1, Answer.INCONCLUSIVE), (12, Answer.INCONCLUSIVE)],
)
def test_only_unknown_to_the_kernel_is_a_no(number: int, answer: Answer) -> None:
    found = features.judge("program x", lambda: _fails(number))
    assert found.answer is answer
    assert found.mend


@pytest.mark.parametrize("missing", ["libnothing-of-this-name.so.9", "libc.so.6"])
def test_absent_or_foreign_libbpf_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(libbpf, "LIBRARY", missing)
    libbpf.library.cache_clear()
    try:
        with pytest.raises(UnavailableError, match=r"can't be used.*apt install libbpf1"):
            libbpf.library()
    finally:
        libbpf.library.cache_clear()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "x" * 65, "a b"])
def test_instance_names_that_bpffs_can_not_hold_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="can't name an instance"):
        Pins("/sys/fs/bpf", name)
