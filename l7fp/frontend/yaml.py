"""YAML text to spanned nodes.

In: one `SourceFile`. Out: one `Document` per YAML document, made of `Scalar`, `Mapping` and
`Sequence` nodes that know their place; findings L7FP103..L7FP109.

Nodes are composed here from libyaml's events rather than by `yaml.compose`, which overflows the
C stack on deep nesting and resolves YAML 1.1 words (`yes`, `on`, `1:30`) before a schema could
say what was meant. Nothing is resolved here: a scalar is its text and whether it was quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from l7fp.diagnostics import Diagnostics
from l7fp.source import SourceFile, Span

MAX_DEPTH = 100
MAX_ALIASED_NODES = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_TEXT_TAG = _CORE + "str"
_QUOTING = frozenset(("'", '"', "|", ">"))
_KNOWN_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp"))
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Scalar:
    """`quoted` is true for quotes, block text and an explicit `!!str`: then it is text, whatever it looks like."""

    value: str
    quoted: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys are text and appear once; merge keys (`<<`) are already spliced in, own keys winning."""

    items: tuple[tuple[Scalar, Node], ...]
    span: Span

    def get(self, key: str) -> Node | None:
        """Value under `key`, or None."""
        return next((value for name, value in self.items if name.value == key), None)


Node = Scalar | Sequence | Mapping


class _Stop(Exception):
    """The finding was reported; the rest of this text can't be read."""


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen."""

    start: Any
    is_mapping: bool
    anchor: str | None
    items: list[Node]
    size: int = 1
    height: int = 1


def parse(source: SourceFile, sink: Diagnostics) -> list[Node]:
    """Documents of `source` in order, empty ones left out. After a syntax error only those before it."""
    documents: list[Node] = []
    try:
        documents.extend(_Composer(source, sink).documents())
    except _Stop:
        pass
    return documents


class _Composer:
    def __init__(self, source: SourceFile, sink: Diagnostics) -> None:
        self.source = source
        self.sink = sink
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.aliased = 0

    def documents(self) -> Iterator[Node]:
        stack: list[_Open] = []
        done: tuple[Node, int, int]
        for event in self._events():
            kind = type(event)
            if kind is yaml.ScalarEvent:
                done = self._scalar(event), 1, 1
                if event.anchor is not None:
                    self.anchors[event.anchor] = done
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._tag(event)
                if len(stack) >= MAX_DEPTH:
                    self._fail("L7FP106", self._span(event), f"more than {MAX_DEPTH} levels of nesting")
                stack.append(_Open(event.start_mark, kind is yaml.MappingStartEvent, event.anchor, []))
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                opened = stack.pop()
                done = self._close(opened, event), opened.size, opened.height
                if opened.anchor is not None:
                    self.anchors[opened.anchor] = done
            elif kind is yaml.AliasEvent:
                done = self._alias(event)
            else:
                if kind is yaml.DocumentStartEvent:
                    self.anchors, self.aliased = {}, 0
                continue
            if stack:
                self._add(stack, *done)
            elif not is_null(done[0]):
                yield done[0]

    def _events(self) -> Iterator[Any]:
        text = self.source.text
        if self.source.name.endswith(".json"):
            # JSON writes astral characters as two escapes, YAML knows no surrogates; JSON may indent with tabs.
            text = _SURROGATES.sub(lambda m: _join_surrogates(m[1], m[2]), text).replace("\t", " ")
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Span(self.source.name, 1, 1, 1, 1) if mark is None else self._point(mark.line, mark.column)
            self._fail("L7FP103", place, f"not valid YAML: {error.problem or error.context}", _syntax_hint(error))
        except yaml.YAMLError as error:
            at = getattr(error, "position", 0)
            before = text[:at] if isinstance(at, int) else ""
            place = self._point(before.count("\n"), len(before) - before.rfind("\n") - 1)
            what = f"not valid YAML: {getattr(error, 'reason', error)}"
            self._fail("L7FP103", place, what, "remove the control character or write it as an escape in quotes")

    def _scalar(self, event: Any) -> Scalar:
        quoted = event.style in _QUOTING
        if event.tag is not None:
            self._tag(event)
            quoted = quoted or event.tag == _TEXT_TAG
        return Scalar(event.value, quoted, self._span(event))

    def _alias(self, event: Any) -> tuple[Node, int, int]:
        found = self.anchors.get(event.anchor)
        if found is None:
            hint = "an anchor must come before its alias and can't contain it"
            self._fail("L7FP106", self._span(event), f"alias `*{event.anchor}` has no complete anchor", hint)
        self.aliased += found[1]
        if self.aliased > MAX_ALIASED_NODES:
            message = f"aliases stand for more than {MAX_ALIASED_NODES:,} nodes"
            self._fail("L7FP106", self._span(event), message, "write the parts out, or split the file")
        return found

    def _add(self, stack: list[_Open], node: Node, size: int, height: int) -> None:
        top = stack[-1]
        if len(stack) + height > MAX_DEPTH + 1:
            self._fail("L7FP106", node.span, f"more than {MAX_DEPTH} levels of nesting")
        top.items.append(node)
        top.size += size
        top.height = max(top.height, height + 1)

    def _close(self, opened: _Open, end: Any) -> Node:
        items = tuple(opened.items)
        start, last = opened.start, end.end_mark
        if end.start_mark.index < last.index:  # `]` or `}`: else a block, which ends with its last item
            last_line, last_column = last.line + 1, last.column + 1
        elif items:
            last_line, last_column = items[-1].span.end_line, items[-1].span.end_column
        else:
            last_line, last_column = start.line + 1, start.column + 1
        span = Span(self.source.name, start.line + 1, start.column + 1, last_line, last_column)
        if not opened.is_mapping:
            return Sequence(items, span)
        return Mapping(self._pairs(items), span)

    def _pairs(self, items: tuple[Node, ...]) -> tuple[tuple[Scalar, Node], ...]:
        own: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Mapping] = []
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._fail("L7FP103", key.span, "a key must be text", "put the key in quotes")
            if key.value == "<<" and not key.quoted:
                merged.extend(self._merge_sources(value))
            elif key.value in own:
                first = own[key.value][0].span
                message = f"`{key.value}` is given twice; first at line {first.line}"
                self.sink.error("L7FP104", key.span, message, "keep one of them: which one wins depends on the reader")
            else:
                own[key.value] = key, value
        for mapping in merged:
            for key, value in mapping.items:
                own.setdefault(key.value, (key, value))
        return tuple(own.values())

    def _merge_sources(self, value: Node) -> list[Mapping]:
        candidates = value.items if isinstance(value, Sequence) else (value,)
        for candidate in candidates:
            if not isinstance(candidate, Mapping):
                self._fail("L7FP107", candidate.span, "a merge key `<<` takes a mapping or a list of mappings")
        return [candidate for candidate in candidates if isinstance(candidate, Mapping)]

    def _tag(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _KNOWN_TAGS and event.tag != "!":
            tag = event.tag.replace(_CORE, "!!")
            self._fail("L7FP109", self._span(event), f"tag `{tag}` has no meaning in a policy", "remove the tag")

    def _span(self, event: Any) -> Span:
        a, b = event.start_mark, event.end_mark
        return Span(self.source.name, a.line + 1, a.column + 1, b.line + 1, b.column + 1)

    def _point(self, line: int, column: int) -> Span:
        return Span(self.source.name, line + 1, column + 1, line + 1, column + 2)

    def _fail(self, code: str, span: Span, message: str, hint: str = "") -> NoReturn:
        self.sink.error(code, span, message, hint)
        raise _Stop


def is_null(node: Node) -> bool:
    """Whether YAML reads this as no value at all."""
    return isinstance(node, Scalar) and not node.quoted and node.value in ("", "~", "null", "Null", "NULL")


def _join_surrogates(high: str, low: str) -> str:
    return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))


def _syntax_hint(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "\\t" in problem or "tab" in problem:
        return "indent with spaces: YAML allows no tabs there"
    if "mapping values are not allowed" in problem:
        return "a value that contains `: ` needs quotes, or the line is indented wrongly"
    if "did not find expected key" in problem or "block mapping" in (error.context or ""):
        return "check the indentation of this line against the lines above"
    if "alias" in problem or "%" in problem or "cannot start any token" in problem:
        return "a value that starts with one of * & ! % @ ` needs quotes"
    return "check quotes, brackets and indentation at this place"
