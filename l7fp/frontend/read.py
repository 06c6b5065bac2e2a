"""Files, folders and standard input to `SourceFile`s; whatever can't be read becomes one finding."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from l7fp.diagnostics import Diagnostics
from l7fp.source import SourceFile, Span

KUSTOMIZE = frozenset(("kustomization.yaml", "kustomization.yml"))
SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 64 << 20
STDIN = "<stdin>"


def read(paths: Sequence[str], sink: Diagnostics) -> list[SourceFile]:
    """Texts of `paths` in order: files, folders (recursively, sorted by path), `-` for standard input."""
    sources: list[SourceFile] = []
    seen: set[str] = set()
    for path in paths:
        if path == "-":
            data: bytes | None = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
            found = [_decode(STDIN, data, sink)] if data is not None else []
        else:
            found = [_decode(name, _bytes(name, sink), sink) for name in _files(path, sink)]
        for source in found:
            if source is not None and source.name not in seen:
                seen.add(source.name)
                sources.append(source)
    return sources


def _files(path: str, sink: Diagnostics) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path, onerror=lambda error: _os_error(str(error.filename), error, sink)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                count += 1
                path_of = os.path.join(folder, name)
                if name in KUSTOMIZE:
                    sink.info("L7FP408", _whole(path_of), "kustomize's own file is skipped", "load what it builds")
                else:
                    yield path_of
    if not count:
        hint = f"put policies there as {', '.join('*' + suffix for suffix in SUFFIXES)}"
        sink.error("L7FP110", _whole(path), "the folder holds no policy file", hint)


def _bytes(name: str, sink: Diagnostics) -> bytes | None:
    try:
        if not os.path.isfile(name) and os.path.exists(name) and not Path(name).is_fifo():
            sink.error("L7FP101", _whole(name), "this is not a regular file", "name a file, a folder or -")
            return None
        with open(name, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        _os_error(name, error, sink)
        return None


def _os_error(name: str, error: OSError, sink: Diagnostics) -> None:
    if isinstance(error, FileNotFoundError):
        sink.error("L7FP110", _whole(name), "there is no such file or folder", "check the path")
    else:
        why = (error.strerror or str(error)).lower()
        sink.error("L7FP101", _whole(name), f"can't be read: {why}", "check its permissions")


def _decode(name: str, data: bytes | None, sink: Diagnostics) -> SourceFile | None:
    if data is None:
        return None
    if len(data) > MAX_FILE_BYTES:
        limit = f"more than {MAX_FILE_BYTES >> 20} MiB"
        sink.error("L7FP108", _whole(name), f"the file is too large: {limit}", "split it")
        return None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        sink.error("L7FP102", _whole(name), "the text is UTF-16", "save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        place = Span(name, line, column, line, column + 1)
        sink.error("L7FP102", place, message, "save the file as UTF-8; is it a policy at all?")
        return None
    if "\0" in text:
        sink.error("L7FP102", _whole(name), "the file holds binary data", "name a YAML or JSON file")
        return None
    return SourceFile(name, text)


def _whole(name: str) -> Span:
    return Span(name, 1, 1, 1, 1)
