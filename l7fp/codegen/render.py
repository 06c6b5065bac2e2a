"""Plan -> C text. Templates only loop over values; every value passes one of the filters below.

No byte of a policy reaches the C text as text: strings of a policy live in the tables. What is written are
numbers and identifiers that this project chose, and `lint` checks that on the result.
"""

from __future__ import annotations

import re
from enum import IntFlag
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

from l7fp import abi

if TYPE_CHECKING:
    from l7fp.codegen.plan import Plan

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


def tables_header(plan: Plan | None) -> str:
    """`tables.h` for a policy, or for the host library when `plan` is None."""
    values: dict[str, Any] = {"host": plan is None, "all_features": ALL_FEATURES}
    values["tables"] = [
        {
            "name": t.name,
            "element": t.element,
            "accessor": ACCESSORS[t.name],
            "whole": t.name in WHOLE_TABLES,
            "count": plan.counts[t.name] if plan else 0,
        }
        for t in abi.TABLES
    ]
    if plan is not None:
        values |= {
            "cell_mask": plan.counts["cells"] - 1,
            "blob_mask": plan.counts["blob"] - 1,
            "header_dfa": plan.header_dfa,
            "response_header_dfa": plan.response_header_dfa,
            "query_dfa": plan.query_dfa,
            "method_dfa": plan.method_dfa,
            "host_bits_dfa": plan.host_bits_dfa,
            "n_bits": plan.n_bits,
            "n_ports": max(1, len(plan.ports)),
            "n_counters": 3 * len(plan.rule_names),
            "features": plan.features,
        }
    return environment().get_template("tables.h.j2").render(values)


def _fixed(suffix: str) -> dict[str, str]:
    """The templates that are plain C."""
    folder = resources.files("l7fp") / "templates"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(suffix))
    return {name: template_text(name) for name in names}


def render(plan: Plan) -> dict[str, str]:
    """Sources of the policy object, whose main file is `policy.bpf.c`."""
    sources = _fixed(".h") | {"abi.h": abi_header(), "tables.h": tables_header(plan)}
    sources["policy.bpf.c"] = template_text("policy.bpf.c")
    lint(sources["tables.h"])
    return sources


def render_base() -> dict[str, str]:
    """Sources of the base object, whose main file is `base.bpf.c`; no policy has any part in it."""
    return _fixed(".h") | {"abi.h": abi_header(), "base.bpf.c": template_text("base.bpf.c")}


def render_host() -> dict[str, str]:
    """Sources of the host test library, whose main file is `host.c`; tables are given to it at run time."""
    return _fixed(".h") | {"abi.h": abi_header(), "tables.h": tables_header(None), "host.c": template_text("host.c")}


_SAFE_LINE = re.compile(
    r"""\s*(?:
      /?\*.*                                                  # comment
    | \#(?:ifndef|define|endif|include)\b[ ]?[A-Za-z0-9_]*[ ]?(?:"[a-z0-9_]+\.h"|[0-9]+U?(?:LL)?)?
    | (?:static|struct|return|__uint|__type|u8|u16|u32|u64|_Static_assert)\b[^"'\\]*(?:SEC\("\.maps"\);)?(?:/\*.*\*/)?
    | [{}].*
    )?""",
    re.VERBOSE,
)


def lint(text: str) -> None:
    """ValueError if a rendered header holds anything but declarations, accessors and plain numbers."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.isascii() or not _SAFE_LINE.fullmatch(line):
            raise ValueError(f"rendered line {number} is not of a known form: {line!r}")
