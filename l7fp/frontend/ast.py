"""Root of the typed AST: the objects that were read, in the order of the input."""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from l7fp.frontend import wire
from l7fp.frontend.schema import STRING, At, Opaque, key, keys, mapping, record
from l7fp.frontend.virtual_service import LABELS
from l7fp.source import Span

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """`metadata` of any object; what the API server writes besides is not looked at."""

    span: Span
    name: At[str] | None = key(wire.NONEMPTY)
    generate_name: At[str] | None = key(STRING)
    namespace: At[str] | None = key(STRING)
    uid: At[str] | None = key(STRING)
    labels: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    annotations: tuple[tuple[At[str], At[str]], ...] = keys(mapping(STRING))
    deletion_timestamp: At[str] | None = key(STRING)
    OPEN: ClassVar[bool] = True


METADATA = record(Metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One Kubernetes object. `spec` is the record of its kind (the whole object where it has no `spec`)."""

    kind: str
    metadata: Metadata
    spec: Any
    span: Span

    @property
    def name(self) -> str:
        label = self.metadata.name or self.metadata.generate_name
        return "" if label is None else label.value

    @property
    def namespace(self) -> str:
        return "default" if self.metadata.namespace is None else self.metadata.namespace.value or "default"

    @property
    def labels(self) -> dict[str, str]:
        return {name.value: value.value for name, value in self.metadata.labels}

    def annotation(self, name: str) -> At[str] | None:
        """Value of an annotation."""
        return next((value for label, value in self.metadata.annotations if label.value == name), None)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ast:
    """Everything that was read."""

    objects: tuple[Object, ...] = ()

    def of(self, spec: type[S]) -> list[tuple[Object, S]]:
        """Objects whose spec is of this class."""
        return [(item, item.spec) for item in self.objects if isinstance(item.spec, spec)]


def dump(ast: Ast) -> str:
    """The AST as indented text, one value with its place a line; for golden files and `--emit ast`."""
    lines: list[str] = []
    for item in ast.objects:
        lines.append(f"{item} @{item.span}")
        for name, value in item.labels.items():
            lines.append(f"  label {name}: {value}")
        _dump(item.spec, "  ", "spec", lines)
    return "\n".join(lines) + "\n"


def _dump(value: Any, indent: str, name: str, lines: list[str]) -> None:
    match value:
        case At():
            lines.append(f"{indent}{name}: {value.value!r} @{value.span.line}:{value.span.column}")
        case Opaque():
            lines.append(f"{indent}{name}: ... @{value.span.line}:{value.span.column}")
        case tuple():
            for index, item in enumerate(value):
                if isinstance(item, tuple):  # a pair of a map
                    _dump(item[1], indent, f"{name}[{item[0].value!r}]", lines)
                else:
                    _dump(item, indent, f"{name}[{index}]", lines)
        case None:
            pass
        case _:
            lines.append(f"{indent}{name}: @{value.span.line}:{value.span.column}")
            for field in dataclasses.fields(value):
                if field.name != "span":
                    _dump(getattr(value, field.name), indent + "  ", field.name, lines)
