"""Header operations of a VirtualService to IR edits."""

from __future__ import annotations

from collections.abc import Iterable

from l7fp.frontend.virtual_service import HeaderOperations, Headers
from l7fp.frontend.wire import HOST_NAMES
from l7fp.ir.model import NO_EDITS, HeaderEdits


def request_edits(headers: Headers | None) -> HeaderEdits:
    """Edits of the request, without the host."""
    return NO_EDITS if headers is None else _edits(headers.request)


def response_edits(headers: Headers | None) -> HeaderEdits:
    """Edits of the response."""
    return NO_EDITS if headers is None else _edits(headers.response)


def authority(headers: Headers | None) -> str | None:
    """The host that `set` writes, which Istio makes a rewrite of the authority."""
    operations = None if headers is None else headers.request
    for name, value in () if operations is None else (*operations.set, *operations.add):
        if name.value.lower() in HOST_NAMES:
            return _value(value.value)
    return None


def compose(first: HeaderEdits, then: HeaderEdits) -> HeaderEdits:
    """One edit with the effect that Envoy gives two on one route: all removals, then set and add of each in turn."""
    overwritten = {name for name, _ in then.set}
    return HeaderEdits(
        remove=tuple(dict.fromkeys((*first.remove, *then.remove))),
        set=(*((n, v) for n, v in first.set if n not in overwritten), *then.set),
        add=(*((n, v) for n, v in first.add if n not in overwritten), *then.add),
    )


def _edits(operations: HeaderOperations | None) -> HeaderEdits:
    if operations is None:
        return NO_EDITS
    return HeaderEdits(
        remove=tuple(dict.fromkeys(name.value.lower() for name in operations.remove)),
        set=_pairs((name.value, value.value) for name, value in operations.set),
        add=_pairs((name.value, value.value) for name, value in operations.add),
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Sorted by name, as istiod does, so that the order of a YAML map has no effect."""
    return tuple(sorted((name.lower(), _value(value)) for name, value in pairs if name.lower() not in HOST_NAMES))


def _value(text: str) -> str:
    return text.replace("%%", "%")
