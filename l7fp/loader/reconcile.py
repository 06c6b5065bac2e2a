"""From what is there to what is wanted: differences, and steps that are taken all or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

from l7fp.errors import L7fpError, LoadError

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Changes(Generic[K, V]):
    """What to store and what to remove, and how it was: `previous` holds the live values that change or go."""

    store: dict[K, V]
    remove: tuple[K, ...]
    previous: dict[K, V]

    def __bool__(self) -> bool:
        return bool(self.store or self.remove)


def difference(live: Mapping[K, V], desired: Mapping[K, V]) -> Changes[K, V]:
    """The changes that turn `live` into `desired`."""
    store = {k: v for k, v in desired.items() if k not in live or live[k] != v}
    remove = tuple(k for k in live if k not in desired)
    return Changes(store, remove, {k: v for k, v in live.items() if k in store or k not in desired})


@dataclass(slots=True)
class Transaction:
    """Steps with their undoing. A with-block that ends by an exception undoes what was done, last first.

    `on_step` is told the name of each step before it is taken; what it raises fails that step. Failures come out
    as `LoadError`s that name the step; interruptions come out as they are.
    """

    on_step: Callable[[str], None] | None = None
    _undo: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    _current: str = ""

    def step(self, name: str, do: Callable[[], R], undo: Callable[[], object] | None = None) -> R:
        """Take a step. `undo` is called only after `do` has succeeded, so a failing `do` cleans up after itself."""
        self._current = name
        if self.on_step:
            self.on_step(name)
        result = do()
        if undo:
            self._undo.append((name, undo))
        return result

    def on_undo(self, name: str, undo: Callable[[], object]) -> None:
        """Register the undoing of what is about to be done piece by piece."""
        self._undo.append((name, undo))

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._undo.clear()
            return
        failures = []
        while self._undo:
            name, undo = self._undo.pop()
            try:
                undo()
            except Exception as failure:
                failures.append(f"{name}: {failure}")
        if failures:
            hint = "run `l7fp unload` to remove what is left"
            raise LoadError(
                f"{self._current}: {error}; undoing failed too: {'; '.join(failures)}", hint=hint
            ) from error
        if isinstance(error, L7fpError) or not isinstance(error, Exception):
            return
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LoadError(f"{self._current}: {reason}") from error
