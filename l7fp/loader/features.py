"""What this machine can do, asked of the machine itself: each probe answers yes, no, or can't tell, with the mend.

Programs and attachments are probed by really loading a two-instruction one. Only a refusal that means "unknown" is a
no; any other failure, such as a lack of privilege, is inconclusive.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from l7fp.errors import UnavailableError
from l7fp.loader import libbpf, mounts, sys
from l7fp.loader.sys import AttachType, MapType, ProgType

FLOOR = (6, 1)
_CAPS = {12: "CAP_NET_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
_SYS_ADMIN = 21
_RETURN_1 = bytes.fromhex("b7000000010000009500000000000000")  # r0 = 1; exit


class Answer(Enum):
    """Outcome of a probe."""

    YES = "yes"
    NO = "no"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Feature:
    """One probe's outcome. `required`: l7fp can't load without it. `mend` is set unless the answer is yes."""

    name: str
    answer: Answer
    detail: str = ""
    mend: str = ""
    required: bool = True


_PROGRAMS: tuple[tuple[str, ProgType, AttachType | int, int], ...] = (
    ("connect4", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, 0),
    ("connect6", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, 0),
    ("sendmsg4", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_SENDMSG, 0),
    ("sendmsg6", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_SENDMSG, 0),
    ("getpeername4", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME, 0),
    ("getpeername6", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETPEERNAME, 0),
    ("getsockopt", ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, 0),
    ("sockops", ProgType.SOCK_OPS, 0, 0),
    ("sk_lookup", ProgType.SK_LOOKUP, AttachType.SK_LOOKUP, 0),
    ("sk_msg", ProgType.SK_MSG, 0, 0),
    ("syscall", ProgType.SYSCALL, 0, sys.SLEEPABLE),
)

_UPGRADE = f"run a kernel of {FLOOR[0]}.{FLOOR[1]} or later"


def privileges(status: str) -> Feature:
    """From the text of /proc/self/status."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(found[1], 16) if found else 0
    missing = [name for bit, name in _CAPS.items() if not held >> bit & 1]
    if held >> _SYS_ADMIN & 1:  # which includes the two that were split from it in 5.8
        missing = [name for name in missing if name == "CAP_NET_ADMIN"]
    if missing:
        return Feature("privileges", Answer.NO, f"not root: {', '.join(missing)} missing", "run it as root (sudo)")
    return Feature("privileges", Answer.YES)


def kernel(release: str) -> Feature:
    """From `uname -r`."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if not found:
        return Feature("kernel", Answer.INCONCLUSIVE, release, _UPGRADE)
    if (int(found[1]), int(found[2])) < FLOOR:
        return Feature("kernel", Answer.NO, f"Linux {release} is too old", _UPGRADE)
    return Feature("kernel", Answer.YES, release)


def _btf() -> Feature:
    if os.path.exists("/sys/kernel/btf/vmlinux"):
        return Feature("btf", Answer.YES)
    mend = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs at /sys"
    return Feature("btf", Answer.NO, "no /sys/kernel/btf/vmlinux", mend)


def _cgroup2() -> Feature:
    point = mounts.cgroup2()
    if point:
        return Feature("cgroup2", Answer.YES, point)
    mend = "mount it: mount -t cgroup2 none /sys/fs/cgroup"
    return Feature("cgroup2", Answer.NO, "cgroup v2 is not mounted", mend)


def _libbpf() -> Feature:
    try:
        libbpf.library()
    except UnavailableError as error:
        return Feature("libbpf", Answer.NO, error.message, error.hint)
    return Feature("libbpf", Answer.YES, libbpf.LIBRARY)


def _bpf_call() -> Feature:
    """Whether the system call itself is there: containers often filter it."""
    try:
        fd = sys.map_create(MapType.ARRAY, key_size=4, value_size=8, max_entries=1, name="l7fp_probe")
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return Feature("bpf", Answer.NO, "the kernel has no BPF", "use a kernel built with CONFIG_BPF_SYSCALL=y")
        mend = "run it as root, outside of containers that filter bpf(2)"
        answer = Answer.NO if sys.is_unprivileged(error) else Answer.INCONCLUSIVE
        return Feature("bpf", answer, f"bpf(2): {error.strerror}", mend)
    os.close(fd)
    return Feature("bpf", Answer.YES)


def judge(name: str, try_it: Callable[[], int], *, required: bool = True, mend: str = _UPGRADE) -> Feature:
    """Run a probe that returns an fd to close."""
    try:
        fd = try_it()
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.E2BIG, 524):  # 524 is the kernel's ENOTSUPP
            return Feature(name, Answer.NO, f"{name}: not in this kernel", mend, required)
        return Feature(name, Answer.INCONCLUSIVE, f"{name}: {error.strerror}", mend, required)
    os.close(fd)
    return Feature(name, Answer.YES, required=required)


def _program(name: str, kind: ProgType, attach_type: int, flags: int) -> Feature:
    def load() -> int:
        return sys.prog_load(kind, _RETURN_1, attach_type=attach_type, flags=flags, name="l7fp_probe")

    return judge(f"program {name}", load)


def _sockmap_link() -> Feature:
    """Links on sockmaps came with 6.10; before, the map itself keeps the program."""

    def link() -> int:
        target = sys.map_create(MapType.SOCKHASH, key_size=8, value_size=8, max_entries=1, name="l7fp_probe")
        try:
            program = sys.prog_load(ProgType.SK_MSG, _RETURN_1, name="l7fp_probe")
            try:
                return sys.link_create(program, target, AttachType.SK_MSG_VERDICT)
            finally:
                os.close(program)
        finally:
            os.close(target)

    return judge("sockmap link", link, required=False, mend="none needed: the program is attached without a link")


def probe() -> list[Feature]:
    """All probes, cheapest and most telling first."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = [privileges(file.read())]
    found += [kernel(platform.release()), _btf(), _cgroup2(), _libbpf(), _bpf_call()]
    if found[-1].answer is Answer.YES:
        raise_memlock()
        found += [_program(*entry) for entry in _PROGRAMS]
        found.append(_sockmap_link())
    return found


def require_privileges() -> None:
    """Raise `UnavailableError` unless this process may use BPF at all."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = privileges(file.read())
    if found.answer is not Answer.YES:
        raise UnavailableError(found.detail, hint=found.mend)


def require() -> None:
    """Raise `UnavailableError` with the first thing that is missing and its mend."""
    for feature in probe():
        if feature.required and feature.answer is Answer.NO:
            raise UnavailableError(feature.detail or feature.name, hint=feature.mend)


def raise_memlock() -> None:
    """Lift RLIMIT_MEMLOCK, which kernels without memory cgroups still charge maps to; no matter if it can't be."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pass


def cgroup_directory(cgroup: str | None) -> str:
    """The cgroup to attach to: the path itself, one relative to the cgroup v2 mount, or by default the root."""
    root = mounts.cgroup2()
    if root is None:
        raise UnavailableError("cgroup v2 is not mounted", hint="mount it: mount -t cgroup2 none /sys/fs/cgroup")
    if not cgroup:
        return root
    for path in (cgroup, os.path.join(root, cgroup.lstrip("/"))):
        if os.path.isabs(path) and mounts.is_cgroup2(path):
            return os.path.realpath(path)
    raise UnavailableError(f"{cgroup} is not a directory of cgroup v2", hint=f"choose one below {root}")
