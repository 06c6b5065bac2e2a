"""Tables of a small policy and the HTTP/1.1 code compiled for this process, for tests of `l7fp/templates`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from l7fp import abi
from l7fp.codegen import cc, render
from l7fp.codegen.automaton import Pattern, pattern_of
from l7fp.codegen.tables import Tables
from l7fp.ir.model import StringKind, StringMatch

HERE = Path(__file__).parent
TEMPLATES = Path(str(resources.files("l7fp") / "templates"))
MAX_PLACES = 64
TABLES = ("cells", "masks", "headers", "response_headers", "queries", "edits", "parts", "replies", "blob")
FRAMING = {
    "host": abi.HeaderKind.HOST,
    "content-length": abi.HeaderKind.CONTENT_LENGTH,
    "transfer-encoding": abi.HeaderKind.TRANSFER_ENCODING,
    "connection": abi.HeaderKind.CONNECTION,
    **dict.fromkeys(("expect", "upgrade", "te", "trailer", "proxy-connection", "keep-alive"), abi.HeaderKind.DIVERT),
}


def exact(value: str) -> StringMatch:
    return StringMatch(StringKind.EXACT, value)


def prefix(value: str) -> StringMatch:
    return StringMatch(StringKind.PREFIX, value)


@dataclass(frozen=True)
class Edit:
    """An `edit` record in words; `remove` names headers of `Spec.edited` or `Spec.response_edited`."""

    remove: tuple[str, ...] = ()
    insert: bytes = b""
    path_op: abi.PathOp = abi.PathOp.KEEP
    strip: int = 0
    path: bytes = b""
    host: bytes = b""
    response: bool = False


@dataclass(frozen=True)
class Spec:
    """What the parser looks at. Matchers of a name are bits 1, 2, ... of its word, bit 0 is presence."""

    headers: Mapping[str, Sequence[StringMatch]] = field(default_factory=dict)
    queries: Mapping[str, Sequence[StringMatch]] = field(default_factory=dict)
    methods: Sequence[StringMatch] = ()
    edited: Sequence[str] = ()
    response_edited: Sequence[str] = ()
    edits: Sequence[Edit] = ()
    replies: Sequence[tuple[Sequence[tuple[abi.PartKind, int, bytes]], int]] = ()  # parts (kind, off, text), head parts

    def slot(self, name: str) -> int:
        """Word of a header or (`?name`) query parameter."""
        return abi.Bits.FIRST_NAMED + [*self.headers, *(f"?{q}" for q in self.queries)].index(name)


@dataclass(frozen=True)
class Compiled:
    """Packed tables and the constants of `tables.h`."""

    data: dict[str, bytes]
    counts: dict[str, int]
    constants: dict[str, int]

    def header(self, *, host: bool) -> str:
        """`tables.h`."""
        rows = [
            {
                "name": t.name,
                "element": t.element,
                "accessor": render.ACCESSORS[t.name],
                "whole": t.name in render.WHOLE_TABLES,
                "count": self.counts[t.name],
            }
            for t in abi.TABLES
        ]
        return (
            render.environment()
            .get_template("tables.h.j2")
            .render(
                host=host,
                all_features=render.ALL_FEATURES,
                features=set(render.ALL_FEATURES),
                tables=rows,
                n_ports=1,
                n_counters=3,
                **self.constants,
            )
        )


def _values(tables: Tables, matchers: Sequence[StringMatch], first: int) -> int:
    if not matchers:
        return 0
    patterns = [(n, pattern_of(m)) for n, m in enumerate(matchers)]
    present = 1 if first else 0
    return tables.automaton(patterns, lambda hit: tables.mask(hit << first | present), key=("values", first))


def _names(tables: Tables, names: Sequence[str], *, fold: bool) -> int:
    """Automaton whose output is the 1-based number of the name."""
    patterns = [(n, Pattern((name.encode(),), fold)) for n, name in enumerate(names, 1)]
    return tables.automaton(patterns, lambda hit: hit.bit_length() - 1 if hit else 0, key="names") if names else 0


def compile_spec(spec: Spec) -> Compiled:
    """The tables of `spec`."""
    t = Tables()
    for table, edited, matched in (
        ("headers", spec.edited, spec.headers),
        ("response_headers", spec.response_edited, {}),
    ):
        for name in dict.fromkeys([*FRAMING, *matched, *edited]):
            t.add(
                table,
                kind=FRAMING.get(name, abi.HeaderKind.POLICY),
                slot=spec.slot(name) if name in matched else abi.NONE,
                value_dfa=_values(t, matched.get(name, ()), 1),
                edit=list(edited).index(name) + 1 if name in edited else 0,
            )
    for name, matchers in spec.queries.items():
        t.add("queries", slot=spec.slot(f"?{name}"), value_dfa=_values(t, matchers, 1))
    for e in spec.edits:
        insert, path, host = t.text(e.insert), t.text(e.path), t.text(e.host)
        names = list(spec.response_edited if e.response else spec.edited)
        places = [names.index(name) + 1 for name in e.remove]
        t.add(
            "edits",
            remove_count=len(places),
            remove=places,
            insert_off=insert[0],
            insert_len=insert[1],
            path_op=e.path_op,
            path_strip=e.strip,
            path_off=path[0],
            path_len=path[1],
            host_off=host[0],
            host_len=host[1],
        )
    for parts, head_count in spec.replies:
        first = len(t.rows["parts"])
        for kind, off, text in parts:
            at, n = t.text(text) if kind == abi.PartKind.CONST else (off, 0)
            t.add("parts", kind=kind, off=at, len=n)
        t.add("replies", first=first, count=len(parts), head_count=head_count, status=200)
    constants = {
        "header_dfa": _names(t, list(dict.fromkeys([*FRAMING, *spec.headers, *spec.edited])), fold=True),
        "response_header_dfa": _names(t, list(dict.fromkeys([*FRAMING, *spec.response_edited])), fold=True),
        "query_dfa": _names(t, list(spec.queries), fold=False),
        "method_dfa": _values(t, spec.methods, 0),
        "host_bits_dfa": 0,
        "n_bits": abi.Bits.FIRST_NAMED + len(spec.headers) + len(spec.queries),
    }
    data, counts = t.packed()
    constants |= {"cell_mask": counts["cells"] - 1, "blob_mask": counts["blob"] - 1}
    return Compiled(data, counts, constants)


class Place(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint16), ("len", ctypes.c_uint16))


# fmt: off
_HEAD_WORDS = (
    "flags", "head_len", "line_len", "method_len", "path_off", "path_len", "query_off", "query_len", "host_off",
    "host_len", "status", "reason", "off", "state", "dfa", "line", "headers", "limit", "last", "slot", "edit",
)
_STATE = (
    "cell_mask", "blob_mask", "header_dfa", "response_header_dfa", "query_dfa", "method_dfa", "host_bits_dfa", "n_bits",
)
# fmt: on


class Head(ctypes.Structure):
    """`struct l7_head`."""

    _fields_ = (
        ("bits", ctypes.c_uint64 * abi.MAX_BITS),
        ("content_length", ctypes.c_uint64),
        ("edits_seen", ctypes.c_uint64),
        ("slots_seen", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in _HEAD_WORDS),
        ("connection", Place),
        ("places", Place * MAX_PLACES),
    )


FLAG_IS_HEAD, FLAG_NO_BODY, FLAG_CHUNKED, FLAG_CLOSE = 1, 2, 16, 32


class _Run(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("op", "arg", "is_head", "fail_at", "room", "changes")),
        ("result", ctypes.c_int32),
        ("len", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Outcome:
    """`result` is a Reason of the parser, or 0, -1, 1 of a change; `message` is what the message became."""

    result: int
    head: Head
    message: bytes
    changes: int

    @property
    def reason(self) -> abi.Reason:
        return abi.Reason(self.head.reason)

    def text(self, message: bytes, what: str) -> bytes:
        """`path`, `query` or `host` of the parsed `message`."""
        off = getattr(self.head, f"{what}_off")
        return message[off : off + getattr(self.head, f"{what}_len")]


@cache
def _library() -> ctypes.CDLL:
    texts = {path.name: path.read_text() for path in TEMPLATES.iterdir() if path.suffix == ".h"}
    texts |= {"abi.h": render.abi_header(), "tables.h": compile_spec(Spec()).header(host=True)}
    texts["http1_host.c"] = (HERE / "http1_host.c").read_text()
    lib = ctypes.CDLL(str(cc.compile_host(texts, "http1_host.c", options=("-Werror", "-Wno-unknown-pragmas"))))
    assert lib.http1_head_size() == ctypes.sizeof(Head)
    return lib


class Host:
    """The code with the tables of one policy. Only the last one made is in force."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.lib: Any = _library()
        compiled = compile_spec(spec)
        self.keep = []
        for index, name in enumerate(TABLES):
            rows = ctypes.create_string_buffer(compiled.data[name], len(compiled.data[name]))
            self.keep.append(rows)
            self.lib.http1_table(index, rows, compiled.counts[name])
        self.lib.http1_state((ctypes.c_uint32 * 16)(*(compiled.constants[name] for name in _STATE)))

    def run(
        self, op: int, message: bytes, *, arg: int = 0, is_head: bool = False, fail_at: int = 0, room: int = 0
    ) -> Outcome:
        run = _Run(op=op, arg=arg, is_head=is_head, fail_at=fail_at, room=room, len=len(message))
        buffer = ctypes.create_string_buffer(message, max(room, len(message), 1))
        head = Head()
        assert self.lib.http1_run(ctypes.byref(run), buffer, ctypes.byref(head)) == 0
        return Outcome(run.result, head, buffer.raw[: run.len], run.changes)

    def request(self, message: bytes) -> Outcome:
        return self.run(0, message)

    def response(self, message: bytes, *, is_head: bool = False) -> Outcome:
        return self.run(1, message, is_head=is_head)

    def edit_request(self, message: bytes, number: int, *, fail_at: int = 0) -> Outcome:
        return self.run(2, message, arg=number, fail_at=fail_at, room=len(message) + 8192)

    def edit_response(self, message: bytes, number: int, *, is_head: bool = False, fail_at: int = 0) -> Outcome:
        return self.run(3, message, arg=number, is_head=is_head, fail_at=fail_at, room=len(message) + 8192)

    def reply(self, message: bytes, number: int, *, fail_at: int = 0) -> Outcome:
        return self.run(4, message, arg=number, fail_at=fail_at, room=len(message) + 8192)

    def chunked(self, pieces: Sequence[bytes], skip: int = 0) -> tuple[int, int, int]:
        """Outcome, the piece that brought it, and where in that piece the body ended."""
        end = ctypes.c_uint32()
        outcome = 0
        for n, piece in enumerate(pieces):
            outcome = self.lib.http1_chunked(piece, skip if n == 0 else 0, len(piece), n == 0, ctypes.byref(end))
            if outcome:
                return outcome, n, end.value
        return outcome, len(pieces), end.value
