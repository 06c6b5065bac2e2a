"""Changes to policies, made from the leaves up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def transform(value: T, change: Callable[[Any], Any]) -> T:
    """`value`, a tree of dataclasses and tuples, with every dataclass in it replaced by what `change` makes of it."""
    return _transform(value, change)  # type: ignore[no-any-return]


def _transform(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(_transform(item, change) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    old = {f.name: getattr(value, f.name) for f in fields(value)}
    new = {name: _transform(item, change) for name, item in old.items()}
    return change(replace(value, **{n: v for n, v in new.items() if v is not old[n]}))
