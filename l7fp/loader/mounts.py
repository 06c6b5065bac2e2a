"""Where this machine has cgroup v2 and bpffs."""

from __future__ import annotations

import ctypes
import os
import re

from l7fp.errors import UnavailableError

_BPF_FS_MAGIC = 0xCAFE4A11
_CGROUP2_MAGIC = 0x63677270
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes blanks in paths
_LIBC = ctypes.CDLL(None, use_errno=True)


def parse(text: str) -> list[tuple[str, str]]:
    """(mount point, file system type) of each line of /proc/self/mounts."""
    out = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 3:
            out.append((_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[1]), fields[2]))
    return out


def cgroup2_of(text: str) -> str | None:
    """Mount point of cgroup v2; in hybrid layouts it's a folder among the v1 controllers."""
    points = [point for point, kind in parse(text) if kind == "cgroup2"]
    usual = [point for point in points if point.startswith("/sys/fs/cgroup")]
    return next(iter(usual or points), None)


def cgroup2() -> str | None:
    """Mount point of cgroup v2 as this process sees it, None when it isn't mounted."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        return cgroup2_of(file.read())


def file_system(path: str) -> int:
    """Magic number of the file system that holds `path` or, where there is none yet, its nearest parent."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    buffer = ctypes.create_string_buffer(256)
    if _LIBC.statfs(os.fsencode(path), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF


def is_bpffs(path: str) -> bool:
    """Whether `path` is, or would be created, in bpffs."""
    return file_system(path) == _BPF_FS_MAGIC


def is_cgroup2(path: str) -> bool:
    """Whether `path` is an existing directory of cgroup v2."""
    return os.path.isdir(path) and file_system(path) == _CGROUP2_MAGIC


def ensure_bpffs(path: str) -> None:
    """Make `path` a directory of bpffs, mounting one there when nothing above it is."""
    hint = f"mount it: mount -t bpf bpf {path}"
    try:
        if is_bpffs(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
            return
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"can't make {path}: {error.strerror}", hint=hint) from error
    if _LIBC.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        reason = os.strerror(ctypes.get_errno())
        raise UnavailableError(f"no bpffs at {path} and mounting one failed: {reason}", hint=hint)
