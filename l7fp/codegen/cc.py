"""C compilers: BPF objects with the `ziglang` wheel or clang >= 16, test libraries with any host compiler.

The same sources and compiler yield the same bytes on every machine: sources are laid out in a directory of
their own, compiled from inside it under relative names, and that directory's name is mapped away. Objects are
cached by the digest of all that goes into them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l7fp.errors import CompileError

MIN_CLANG = 16
"""Older ones write BTF that the kernel's verifier refuses (seen with 14)."""

_CLANG_NAMES = ("clang", *(f"clang-{n}" for n in range(25, MIN_CLANG - 1, -1)))
_MEND = f"install the extra l7fp[cc] (no root needed), or clang >= {MIN_CLANG}"
_COMMON = ("-mcpu=v3", "-O2", "-g", "-gdwarf-4", "-Wall", "-Wno-unused-function", "-fno-ident", "-nostdinc")
_PREFIX = ("-ffile-prefix-map=.=l7fp", "-fdebug-compilation-dir=l7fp")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler for BPF. `command` is the argv that comes before the options."""

    name: str
    version: str
    command: tuple[str, ...]

    @property
    def label(self) -> str:
        """For people and manifests: `zig 0.13.0`."""
        return f"{self.name} {self.version}"


def _run(argv: Sequence[str], cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ, LC_ALL="C", SOURCE_DATE_EPOCH="0")
    if cwd is not None:  # zig insists on caches; without a home they live as long as the sources do
        env |= {"ZIG_LOCAL_CACHE_DIR": f"{cwd}/zig", "ZIG_GLOBAL_CACHE_DIR": str(_zig_cache() or f"{cwd}/zig")}
    return subprocess.run(list(argv), cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)


def _zig() -> Compiler | str:
    if importlib.util.find_spec("ziglang") is None:
        return "zig: the ziglang wheel is not installed"
    command = (sys.executable, "-m", "ziglang")
    try:
        done = _run([*command, "version"])
    except (OSError, subprocess.SubprocessError) as e:
        return f"zig: {e}"
    if done.returncode:
        return f"zig: {done.stderr.strip() or 'does not run'}"
    return Compiler("zig", done.stdout.strip(), (*command, "cc", "-target", "bpfel-freestanding"))


def _clang(name: str) -> Compiler | str:
    path = shutil.which(name)
    if path is None:
        return f"{name}: not found"
    try:
        done = _run([path, "--version"])
    except (OSError, subprocess.SubprocessError) as e:
        return f"{name}: {e}"
    found = re.search(r"clang version (\d+)(\S*)", done.stdout)
    if not found:
        return f"{name}: not a clang"
    if int(found[1]) < MIN_CLANG:
        return f"{name}: version {found[1]} is too old, its BTF is refused by the kernel"
    return Compiler("clang", found[1] + found[2], (path, "-target", "bpfel"))


def find_compiler(wanted: str = "auto") -> Compiler:
    """The compiler to use: "zig", "clang", a path or name of a clang, or "auto" (zig, else clang).

    Raises CompileError naming what was tried and why it won't do.
    """
    tried: list[str] = []
    names: tuple[str, ...] = _CLANG_NAMES if wanted in ("auto", "clang") else (wanted,)
    if wanted in ("auto", "zig"):
        found = _zig()
        if isinstance(found, Compiler):
            return found
        tried.append(found)
    if wanted != "zig":
        for name in names:
            found = _clang(name)
            if isinstance(found, Compiler):
                return found
            if not found.endswith("not found") or wanted != "auto":
                tried.append(found)
    raise CompileError("no compiler for BPF: " + "; ".join(tried or ["no clang found"]), hint=_MEND)


def cache_dir() -> Path:
    """Where compiled objects are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "l7fp"


def _zig_cache() -> Path | None:
    path = cache_dir() / "zig"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK) else None


def _digest(parts: Sequence[str], sources: Mapping[str, str]) -> str:
    text = hashlib.sha256()
    for part in (*parts, *(x for name in sorted(sources) for x in (name, sources[name]))):
        data = part.encode()
        text.update(len(data).to_bytes(8, "little") + data)
    return text.hexdigest()


def _cached(key: str, suffix: str) -> Path:
    return cache_dir() / f"{key}{suffix}"


def _store(path: Path, data: bytes) -> None:
    """Best effort: a cache that can't be written is no reason to fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
            f.write(data)
        os.replace(f.name, path)
    except OSError:
        pass


def _compile(command: Sequence[str], options: Sequence[str], sources: Mapping[str, str], main: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="l7fp-cc-") as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        try:
            done = _run([*command, *options, main, "-o", "out"], cwd=folder)
        except (OSError, subprocess.SubprocessError) as e:
            raise CompileError(f"the compiler can't be run: {e}", hint=_MEND) from e
        out = Path(folder) / "out"
        if done.returncode or not out.exists():
            errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise CompileError(f"the compiler refused {main}: {'; '.join(errors[:3]) or 'no message'}")
        return out.read_bytes()


def compile_bpf(sources: Mapping[str, str], main: str, *, compiler: str = "auto") -> bytes:
    """The BPF object of `sources[main]`; the other sources are its headers. Raises CompileError."""
    found = find_compiler(compiler)
    options: tuple[str, ...] = (*_COMMON, *_PREFIX, "-I.", "-c")
    if found.name == "zig":
        options = (*options, "-fno-unwind-tables", "-fno-sanitize=all")
    path = _cached(_digest((found.label, *found.command[1:], *options, main), sources), ".o")
    try:
        return path.read_bytes()
    except OSError:
        data = _compile(found.command, options, sources, main)
    _store(path, data)
    return data


def _host_command() -> tuple[str, ...]:
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return (path,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    raise CompileError("no C compiler for this machine", hint="install the extra l7fp[cc], or gcc")


def compile_host(sources: Mapping[str, str], main: str, *, options: Sequence[str] = ()) -> Path:
    """Path of a shared library made of `sources[main]`, in the cache. Raises CompileError."""
    command = _host_command()
    flags = ("-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wno-unused-function", "-I.", *options)
    path = _cached(_digest((*command, *flags, main), sources), ".so")
    if not path.exists():
        _store(path, _compile(command, flags, sources, main))
    if not path.exists():
        raise CompileError(f"{path.parent} can't be written", hint="set XDG_CACHE_HOME to a directory of yours")
    return path
