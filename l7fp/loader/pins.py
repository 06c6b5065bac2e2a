"""The folder of one instance in bpffs: what is pinned there outlives every process.

    <bpffs>/<instance>/maps/NAME   links/NAME   progs/NAME   meta      all 0700

`meta` is pinned last: a folder without it is what a killed load left behind. A lock on the folder serialises
loading, swapping and unloading between processes; the kernel drops it with its holder.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from l7fp.errors import LoadError, UsageError
from l7fp.loader import sys
from l7fp.loader.sys import MapType

KINDS = ("maps", "links", "progs")
_META_BYTES = 4096
_INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOCK_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What is loaded. `pid` and `started` (clock ticks since boot) tell the owning process from a later one."""

    cgroup: str
    base_digest: str
    policy_digest: str
    version: int
    pid: int
    started: int

    @property
    def owner_alive(self) -> bool:
        """Whether the process that loaded or adopted it still runs."""
        return self.pid > 0 and process_start(self.pid) == self.started


def process_start(pid: int) -> int:
    """When a process began, 0 if there is none with this pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rsplit(b")", 1)[1].split()[19])
    except OSError:
        return 0


def _meta(stored: dict[str, object]) -> Meta:
    """What another version wrote is read as far as it is known; it then matches no bundle and can be unloaded."""
    blank = {"cgroup": "", "base_digest": "", "policy_digest": "", "version": 0, "pid": 0, "started": 0}
    known: dict[str, Any] = {name: stored.get(name, value) for name, value in blank.items()}
    return Meta(**known)


class Pins:
    """Pins of one instance. Raises `UsageError` for a name that bpffs can't hold."""

    def __init__(self, bpffs: str, instance: str) -> None:
        if not _INSTANCE.fullmatch(instance):
            raise UsageError(f"'{instance}' can't name an instance", hint="use letters, digits, - and _")
        self.root = os.path.join(bpffs, instance)

    def path(self, kind: str, name: str) -> str:
        """Where an object is or would be pinned."""
        return os.path.join(self.root, kind, name)

    def create(self) -> None:
        """Make the folders that are missing, for root alone."""
        for folder in (self.root, *(os.path.join(self.root, kind) for kind in KINDS)):
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue
            os.chmod(folder, 0o700)  # whatever the umask

    @contextmanager
    def locked(self, *, create: bool = False) -> Iterator[None]:
        """Exclusive use of the folder, which must exist unless it is to be made.

        Raises `LoadError` when another process keeps it, `FileNotFoundError` when there is none.
        """
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            if create:
                self.create()
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == os.stat(self.root).st_ino:
                    break
            except (BlockingIOError, FileNotFoundError):  # kept by another, or just removed by it
                pass
            os.close(fd)
            if time.monotonic() > until:
                raise LoadError(f"{self.root} is being changed by another process")
            time.sleep(0.01)
        try:
            if create:
                self.create()
            yield
        finally:
            os.close(fd)

    def exists(self) -> bool:
        """Whether there is a folder, whole or not."""
        return os.path.isdir(self.root)

    def names(self, kind: str) -> list[str]:
        """Names pinned of a kind."""
        try:
            return sorted(os.listdir(os.path.join(self.root, kind)))
        except FileNotFoundError:
            return []

    def add(self, kind: str, name: str, fd: int) -> None:
        """Pin an object."""
        sys.pin(fd, self.path(kind, name))

    def open(self, kind: str, name: str) -> int:
        """fd of a pinned object."""
        return sys.get_pinned(self.path(kind, name))

    def remove(self, kind: str, name: str) -> None:
        """Unpin; nothing happens when it isn't pinned."""
        try:
            os.unlink(self.path(kind, name))
        except FileNotFoundError:
            pass

    def remove_meta(self) -> None:
        """The folder no longer counts as complete."""
        try:
            os.unlink(os.path.join(self.root, "meta"))
        except FileNotFoundError:
            pass

    def remove_folders(self) -> None:
        """Remove the folders, which must be empty."""
        for kind in KINDS:
            _rmdir(os.path.join(self.root, kind))
        _rmdir(self.root)

    @property
    def complete(self) -> bool:
        """Whether the load that made this folder came to its end."""
        return os.path.exists(os.path.join(self.root, "meta"))

    def read_meta(self) -> Meta | None:
        """What is loaded, None when nothing is, or not completely."""
        for _ in range(100):
            try:
                fd = sys.get_pinned(os.path.join(self.root, "meta"))
            except FileNotFoundError:
                return None
            try:
                raw = sys.map_lookup(fd, bytes(4), _META_BYTES) or b""
            finally:
                os.close(fd)
            try:
                return _meta(json.loads(raw.rstrip(b"\0")))
            except ValueError:  # read while it was written
                time.sleep(0.001)
        return _meta({})

    def write_meta(self, meta: Meta) -> None:
        """Record what is loaded; the first time this makes the folder complete."""
        path = os.path.join(self.root, "meta")
        data = json.dumps(asdict(meta), sort_keys=True).encode()
        if len(data) > _META_BYTES:
            raise LoadError(f"the path of the cgroup is too long: {meta.cgroup}")
        new = not os.path.exists(path)
        if new:
            fd = sys.map_create(MapType.ARRAY, key_size=4, value_size=_META_BYTES, max_entries=1, name="meta")
        else:
            fd = sys.get_pinned(path)
        try:
            sys.map_update(fd, bytes(4), data.ljust(_META_BYTES, b"\0"))
            if new:
                sys.pin(fd, path)
        finally:
            os.close(fd)


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
