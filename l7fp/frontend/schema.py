"""Declarative schemas: AST dataclasses that say which keys they have, and one decoder for all.

A record is a frozen dataclass whose fields are made by `key(...)`; the YAML key is the field name
in camelCase. Decoding reports every unknown key with a "did you mean", every wrong type and every
missing or conflicting field, and goes on, so that one run shows all findings. A record with an
unusable required part decodes to None, and the finding is already in the sink.

A key may carry a note: `unenforced` (understood, accepted, coded warning) or `refused` (understood,
and ignoring it would enforce less than the author asked for).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from l7fp.diagnostics import Diagnostics
from l7fp.frontend import scalars
from l7fp.frontend.yaml import Mapping, Node, Scalar, Sequence, is_null
from l7fp.source import Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class At(Generic[T]):
    """A value and its place."""

    value: T
    span: Span


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part that was recognised and not looked into."""

    span: Span


@dataclass(frozen=True, slots=True)
class Type(Generic[T]):
    """How to decode a node. `expects` completes "... is expected"."""

    expects: str
    read: Callable[[Decoder, Node, str], T | None]


@dataclass(frozen=True, slots=True)
class Note:
    """What to say when a key is present. `protects`: leaving it out would enforce less, so it is an error."""

    reason: str
    hint: str = ""
    protects: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One row of a record's table."""

    name: str
    attribute: str
    type: Type[Any]
    required: bool
    note: Note | None


class Checked(Protocol):
    """A record with conditions that a table can't say."""

    span: Span

    def check(self, decoder: Decoder, path: str) -> None: ...


def key(
    type_: Type[Any] | Callable[[], Type[Any]], *, required: bool = False, name: str = "", note: Note | None = None
) -> Any:
    """A dataclass field decoded by `type_` (a function where the type is defined further down)."""
    metadata = {"type": type_, "required": required, "name": name, "note": note}
    return dataclasses.field(metadata=metadata) if required else dataclasses.field(default=None, metadata=metadata)


def keys(type_: Type[Any] | Callable[[], Type[Any]], *, name: str = "", note: Note | None = None) -> Any:
    """Like `key` for lists and maps: absent is the empty tuple."""
    return dataclasses.field(default=(), metadata={"type": type_, "required": False, "name": name, "note": note})


def unenforced(reason: str, hint: str = "") -> Note:
    """Accepted with a warning: traffic is handled as if the field were absent."""
    return Note(reason, hint)


def refused(reason: str, hint: str = "") -> Note:
    """An error: ignoring the field would enforce less."""
    return Note(reason, hint, protects=True)


class Decoder:
    """One decoding run: where findings go. `path` arguments name a place in the document, such as `spec.http[0]`."""

    def __init__(self, sink: Diagnostics) -> None:
        self.sink = sink

    def error(self, code: str, span: Span, path: str, message: str, hint: str = "") -> None:
        self.sink.error(code, span, f"{path}: {message}", hint)

    def warning(self, code: str, span: Span, path: str, message: str, hint: str = "") -> None:
        self.sink.warning(code, span, f"{path}: {message}", hint)

    def decode(self, type_: Type[T], node: Node, path: str) -> T | None:
        """The value, or None after a finding."""
        return type_.read(self, node, path)

    def wrong(self, node: Node, path: str, expects: str, hint: str = "") -> None:
        got = {Scalar: "a single value", Mapping: "a mapping", Sequence: "a list"}[type(node)]
        got = "nothing" if is_null(node) else got
        self.error("L7FP202", node.span, path, f"{expects} is expected, not {got}", hint)


_TABLES: dict[type[Any], dict[str, Key]] = {}


def table(cls: type[Any]) -> dict[str, Key]:
    """Rows of a record by YAML key, in order."""
    if cls in _TABLES:
        return _TABLES[cls]
    rows: dict[str, Key] = {}
    for field in dataclasses.fields(cls):
        if "type" in field.metadata:
            kind = field.metadata["type"]
            head, *tail = field.name.rstrip("_").split("_")
            name = field.metadata["name"] or head + "".join(part[:1].upper() + part[1:] for part in tail)
            resolved = kind if isinstance(kind, Type) else kind()
            rows[name] = Key(name, field.name, resolved, field.metadata["required"], field.metadata["note"])
    _TABLES[cls] = rows
    return rows


def record(cls: type[T], expects: str = "a mapping") -> Type[T]:
    """Type of a record class. Class variables refine it: OPEN (other keys are nobody's business),
    ONE_OF (groups of keys that exclude one another), NEED (groups of which one must be there), STRICT
    (one bad part spoils the whole, as what is left would say something else)."""

    def read(decoder: Decoder, node: Node, path: str) -> T | None:
        if not isinstance(node, Mapping):
            decoder.wrong(node, path, expects)
            return None
        return _read_record(decoder, cls, node, path)

    return Type(expects, read)


def _read_record(decoder: Decoder, cls: type[T], node: Mapping, path: str) -> T | None:
    rows = table(cls)
    values: dict[str, Any] = {"span": node.span}
    present: dict[str, Scalar] = {}
    usable = True
    for name, child in node.items:
        row = rows.get(name.value)
        here = f"{path}.{name.value}"
        if row is None:
            if not getattr(cls, "OPEN", False):
                _unknown(decoder, name, here, rows)
            continue
        if is_null(child):
            if not getattr(cls, "OPEN", False):
                message = "has no value, which counts as leaving it out"
                decoder.warning("L7FP214", name.span, here, message, "give a value or remove the key")
            continue
        present[name.value] = name
        value = row.type.read(decoder, child, here)
        if value is None:
            usable = usable and not row.required and not getattr(cls, "STRICT", False)
            continue
        values[row.attribute] = value
        if row.note is not None:
            _note(decoder, name, here, row.note)
    for row in rows.values():
        if row.required and row.name not in present:
            usable = False
            hint = f"add `{row.name}`"
            decoder.error("L7FP203", node.span, path, f"`{row.name}` is missing", hint)
    _groups(decoder, cls, node, present, path)
    if not usable:
        return None
    made = cls(**values)
    check = getattr(made, "check", None)
    if check is not None:
        check(decoder, path)
    return made


def _groups(decoder: Decoder, cls: type[Any], node: Mapping, present: dict[str, Scalar], path: str) -> None:
    for group in getattr(cls, "ONE_OF", ()):
        found = [name for name in group if name in present]
        if len(found) > 1:
            listed = " and ".join(f"`{name}`" for name in found)
            decoder.error("L7FP205", present[found[1]].span, path, f"{listed} exclude one another", "keep one of them")
    for group in getattr(cls, "NEED", ()):
        if not any(name in present for name in group):
            decoder.error("L7FP203", node.span, path, f"needs {_any_of(group)}", f"add {_any_of(group)}")


def _any_of(names: Iterable[str]) -> str:
    *first, last = [f"`{name}`" for name in names]
    return f"{', '.join(first)} or {last}" if first else last


def _unknown(decoder: Decoder, name: Scalar, path: str, rows: dict[str, Key]) -> None:
    guess = did_you_mean(name.value, rows)
    possible = "possible here: " + (", ".join(rows) or "nothing")
    hint = f"{guess}; {possible}" if guess else possible
    decoder.error("L7FP201", name.span, path, f"unknown field `{name.value}`", hint)


def _note(decoder: Decoder, name: Scalar, path: str, note: Note) -> None:
    if note.protects:
        decoder.error("L7FP402", name.span, path, note.reason, note.hint or "remove it, or enforce it elsewhere")
    else:
        decoder.warning("L7FP401", name.span, path, note.reason, note.hint)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`did you mean ...?` for the closest of `words`, or nothing."""
    by_folded = {candidate.lower().replace("_", ""): candidate for candidate in words}
    close = difflib.get_close_matches(word.lower().replace("_", ""), by_folded, n=1, cutoff=0.6)
    return f"did you mean `{by_folded[close[0]]}`?" if close else ""


# --- types ------------------------------------------------------------------------------------------


def _scalar(expects: str, convert: Callable[[Scalar], T]) -> Type[At[T]]:
    def read(decoder: Decoder, node: Node, path: str) -> At[T] | None:
        if not isinstance(node, Scalar):
            decoder.wrong(node, path, expects)
            return None
        try:
            return At(convert(node), node.span)
        except scalars.Unreadable as why:
            message, hint, code = why.args
            decoder.error(code, node.span, path, message, hint)
            return None

    return Type(expects, read)


STRING: Type[At[str]] = _scalar("text", scalars.text)
BOOL: Type[At[bool]] = _scalar("true or false", scalars.boolean)
ANY: Type[Opaque] = Type("anything", lambda decoder, node, path: Opaque(node.span))


def checked(base: Type[At[T]], problem: Callable[[T], tuple[str, str, str] | None]) -> Type[At[T]]:
    """`base` with a condition: `problem` returns (code, message, hint) for a value that won't do."""

    def read(decoder: Decoder, node: Node, path: str) -> At[T] | None:
        value = base.read(decoder, node, path)
        bad = None if value is None else problem(value.value)
        if bad is not None:
            decoder.error(bad[0], node.span, path, bad[1], bad[2])
            return None
        return value

    return Type(base.expects, read)


def integer(low: int, high: int = 2**32 - 1) -> Type[At[int]]:
    """A whole number in [low, high]."""

    def problem(value: int) -> tuple[str, str, str] | None:
        if low <= value <= high:
            return None
        return "L7FP204", f"{value} is out of range", f"possible: {low} to {high}"

    return checked(_scalar("a whole number", scalars.integer), problem)


def number(low: float, high: float) -> Type[At[float]]:
    """A number in [low, high]."""

    def problem(value: float) -> tuple[str, str, str] | None:
        if low <= value <= high:
            return None
        return "L7FP204", f"{value:g} is out of range", f"possible: {low:g} to {high:g}"

    return checked(_scalar("a number", scalars.number), problem)


def duration(*, low_ms: int = 0) -> Type[At[int]]:
    """A duration, kept in whole milliseconds, as Istio demands."""

    def convert(node: Scalar) -> int:
        nanoseconds = scalars.duration_ns(node)
        milliseconds, rest = divmod(nanoseconds, 10**6)
        if rest:
            raise scalars.Unreadable(f"`{node.value}` isn't a whole number of milliseconds", "round it", "L7FP209")
        if milliseconds < low_ms:
            raise scalars.Unreadable(f"`{node.value}` is too short", f"at least {low_ms}ms", "L7FP209")
        if milliseconds > 2**31:
            raise scalars.Unreadable(f"`{node.value}` is too long", "at most 24 days", "L7FP209")
        return milliseconds

    return _scalar("a duration", convert)


def enum(*words: str) -> Type[At[str]]:
    """One of `words`."""

    def problem(value: str) -> tuple[str, str, str] | None:
        if value in words:
            return None
        guess = did_you_mean(value, words)
        hint = " ".join(filter(None, (guess, f"possible: {', '.join(words)}")))
        return "L7FP204", f"`{value}` is none of the possible values", hint

    return checked(STRING, problem)


def sequence(of: Type[T], *, at_least: int = 0) -> Type[tuple[T, ...]]:
    """A list. Items that don't decode are left out; None when that leaves none."""

    def read(decoder: Decoder, node: Node, path: str) -> tuple[T, ...] | None:
        if not isinstance(node, Sequence):
            decoder.wrong(node, path, "a list", "start each item with `- `")
            return None
        if len(node.items) < at_least:
            decoder.error("L7FP203", node.span, path, "the list is empty", "give at least one item, or remove the key")
        items = [of.read(decoder, child, f"{path}[{index}]") for index, child in enumerate(node.items)]
        kept = tuple(item for item in items if item is not None)
        return kept if kept or not items else None

    return Type("a list", read)


def mapping(
    of: Type[T], *, name: Callable[[str], tuple[str, str, str] | None] | None = None
) -> Type[tuple[tuple[At[str], T], ...]]:
    """A map with free keys, in order. `name` judges the keys as `checked` does values."""

    def read(decoder: Decoder, node: Node, path: str) -> tuple[tuple[At[str], T], ...] | None:
        if not isinstance(node, Mapping):
            decoder.wrong(node, path, "a mapping")
            return None
        pairs: list[tuple[At[str], T]] = []
        for label, child in node.items:
            here = f"{path}[{label.value}]"
            bad = None if name is None else name(label.value)
            if bad is not None:
                decoder.error(bad[0], label.span, here, bad[1], bad[2])
                continue
            value = of.read(decoder, child, here)
            if value is not None:
                pairs.append((At(label.value, label.span), value))
        return tuple(pairs)

    return Type("a mapping", read)


def either(*types: Type[Any], expects: str) -> Type[Any]:
    """The first of `types` that takes the node without a finding."""

    def read(decoder: Decoder, node: Node, path: str) -> Any:
        for candidate in types:
            quiet = Decoder(Diagnostics())
            value = candidate.read(quiet, node, path)
            if value is not None and not len(quiet.sink):
                return value
        decoder.wrong(node, path, expects)
        return None

    return Type(expects, read)


Groups = tuple[tuple[str, ...], ...]
