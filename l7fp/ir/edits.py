"""Header edits applied and combined, in the order in which Envoy applies them."""

from __future__ import annotations

from l7fp.ir.model import NO_EDITS, HeaderEdits

Headers = tuple[tuple[str, str], ...]


def apply(edits: HeaderEdits, headers: Headers) -> Headers:
    """Headers (lower-case names) after remove, then set, then add. A set header keeps the place of its
    first value; one that was absent, and an added one, goes to the end."""
    out = list(headers)
    if edits.remove:
        gone = frozenset(edits.remove)
        out = [item for item in out if item[0] not in gone]
    for name, value in edits.set:
        places = [i for i, item in enumerate(out) if item[0] == name]
        if not places:
            out.append((name, value))
            continue
        out[places[0]] = (name, value)
        for place in reversed(places[1:]):
            del out[place]
    out.extend(edits.add)
    return tuple(out)


def combine(*sequence: HeaderEdits) -> HeaderEdits:
    """One value that does what applying `sequence` in order does, but for the order of different headers."""
    useful = [edits for edits in sequence if edits]
    if len(useful) < 2:
        return useful[0] if useful else NO_EDITS
    state: dict[str, tuple[bool, list[str]]] = {}  # name: (earlier values are dropped, values then appended)
    for edits in useful:
        for name in edits.remove:
            state[name] = (True, [])
        for name, value in edits.set:
            state[name] = (True, [value])
        for name, value in edits.add:
            state.setdefault(name, (False, []))[1].append(value)
    remove: list[str] = []
    overwrite: list[tuple[str, str]] = []
    add: list[tuple[str, str]] = []
    for name, (clears, values) in state.items():
        if clears and not values:
            remove.append(name)
        elif clears:
            overwrite.append((name, values[0]))
        add += [(name, value) for value in values[1 if clears else 0 :]]
    return HeaderEdits(remove=tuple(remove), set=tuple(overwrite), add=tuple(add))
