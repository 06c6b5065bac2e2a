"""Policy text to IR.

```
files ─ read ─► text ─ yaml ─► spanned nodes ─ kinds + schema ─► typed AST ─ lower ─► ir.model.Policy
```

Nothing here raises for bad input: every finding is a coded diagnostic with its place.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from l7fp.diagnostics import Diagnostic, Diagnostics, Severity
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.kinds import decode
from l7fp.frontend.lower import lower
from l7fp.frontend.read import read
from l7fp.frontend.schema import Decoder
from l7fp.frontend.yaml import parse
from l7fp.ir.model import Policy
from l7fp.source import SourceFile, Span


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of the input. `policy` is None iff `diagnostics.failed`; `sources` are by name."""

    policy: Policy | None
    diagnostics: Diagnostics
    ast: Ast
    sources: dict[str, SourceFile]


def load(paths: Sequence[str]) -> Loaded:
    """Policy of files, folders (recursively `*.yaml`, `*.yml`, `*.json`, sorted) and `-` (standard input)."""
    sink = Diagnostics()
    with _collector_paused():
        return _load(read(paths, sink), sink)


def load_text(text: str, name: str = "<text>") -> Loaded:
    """Policy of one text."""
    with _collector_paused():
        return _load([SourceFile(name, text)], Diagnostics())


def _load(sources: Iterable[SourceFile], sink: Diagnostics) -> Loaded:
    objects: list[Object] = []
    by_name: dict[str, SourceFile] = {}
    empty: list[Span] = []
    decoder = Decoder(sink)
    for source in sources:
        by_name[source.name] = source
        before = len(sink)
        nodes = parse(source, sink)
        if not nodes and len(sink) == before:
            empty.append(Span(source.name, 1, 1, 1, 1))
        for node in nodes:
            objects.extend(decode(decoder, node))
    report = sink.error if len(empty) == len(by_name) else sink.warning
    for place in empty:
        report("L7FP105", place, "there is no policy in this file", "write one, or leave the file out")
    ast = Ast(objects=tuple(objects))
    unreadable = any(item.severity is Severity.ERROR and item.code < "L7FP3" for item in sink)
    # References are only worth reporting when everything that they could mean was read.
    policy = None if unreadable else lower(ast, sink)
    # One route seen from several ports says everything again.
    sink.items[:] = dict.fromkeys(map(_printable, sink.items))
    return Loaded(None if sink.failed else policy, sink, ast, by_name)


def _printable(found: Diagnostic) -> Diagnostic:
    """Findings quote the input: no control character of it may reach a terminal or break a line."""
    return replace(found, message=_escaped(found.message), hint=_escaped(found.hint))


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Loading makes many values and no cycles: looking for garbage among them takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
