"""Plan -> C text. Templates only loop over values; every value passes one of the filters below.

No byte of a policy reaches the C text as text: strings of a policy live in the tables. What is written are
numbers and identifiers that this project chose, and `lint` checks that on the result.
"""

from __future__ import annotations

import re
from enum import IntFlag
from importlib import resources
from typing import Any

import jinja2

from l7fp import abi

ALL_FEATURES = (
    "has_authz",
    "has_query",
    "has_request_edits",
    "has_response_edits",
    "has_replies",
    "has_source",
    "has_source_ip",
)
"""What a policy may need of the program; each becomes a constant 0 or 1 in C (`L7_HAS_AUTHZ` ...)."""

ACCESSORS = {
    "cells": "cells",
    "masks": "mask",
    "code": "instr",
    "vhosts": "vhost",
    "headers": "header",
    "response_headers": "response_header",
    "queries": "query",
    "rules": "rule",
    "dests": "dest",
    "clusters": "cluster",
    "endpoints": "endpoint",
    "authz": "authz",
    "edits": "edit",
    "parts": "part",
    "replies": "reply",
    "blob": "blob",
}
"""Table -> C accessor, without its `l7_`."""

WHOLE_TABLES = frozenset({"cells", "blob"})
"""Tables that are one map entry."""

_IDENT = re.compile(r"[A-Za-z0-9_]+")


def c_ident(text: str) -> str:
    """`text` if it is made of letters, digits and underscores only, else ValueError."""
    if not _IDENT.fullmatch(text):
        raise ValueError(f"not a C identifier: {text!r}")
    return text


def c_ident_type(text: str) -> str:
    """C type of a table element: an integer type as it is, a struct by its C name."""
    return c_ident(text) if text in ("u8", "u16", "u32", "u64") else f"struct l7_{c_ident(text)}"


def c_uint(value: int) -> str:
    """An unsigned C constant wide enough for `value`."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"not an unsigned 64-bit number: {value}")
    return f"{value}ULL" if value >= 1 << 32 else f"{value}U" if value >= 1 << 31 else str(value)


def c_bytes(data: bytes) -> str:
    """The elements of a C array of bytes."""
    return ", ".join(str(b) for b in data)


def environment() -> jinja2.Environment:
    """Jinja without any leniency: an unknown name is an error, nothing is escaped behind our back."""
    env = jinja2.Environment(
        loader=jinja2.FunctionLoader(template_text),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    env.filters.update(c_ident=c_ident, c_ident_type=c_ident_type, c_uint=c_uint, c_bytes=c_bytes)
    return env


def template_text(name: str) -> str:
    """A file of `l7fp/templates`."""
    return (resources.files("l7fp") / "templates" / name).read_text(encoding="utf-8")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)


def abi_header() -> str:
    """`abi.h`: every struct, enum and limit of `l7fp.abi`, prefixed `l7_` / `L7_`, with its sizes asserted."""
    enums = []
    for enum in abi.ENUMS:
        snake = _snake(enum.__name__)
        members = [(f"L7_{snake.upper()}_{m.name}", int(m)) for m in enum]
        enums.append({"name": f"l7_{snake.lower()}", "flags": issubclass(enum, IntFlag), "members": members})
    structs: list[dict[str, Any]] = [
        {
            "name": s.name,
            "size": s.size,
            "fields": [{"name": f.name, "type": f.type, "count": f.count} for f in s.fields],
            "offsets": [(f.name, s.offset(f.name)) for f in s.fields],
        }
        for s in abi.STRUCTS
    ]
    return (
        environment()
        .get_template("abi.h.j2")
        .render(fingerprint=abi.fingerprint(), limits=sorted(abi.LIMITS.items()), enums=enums, structs=structs)
    )
