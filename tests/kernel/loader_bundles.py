"""Small data planes of our own, so that loader tests fail for the loader's reasons only."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

from l7fp import abi
from l7fp.codegen import cc, render
from l7fp.ir.model import FieldKind, StringKind, StringMatch, Workload
from l7fp.loader.desired import Desired

_HERE = Path(__file__).parent
FIRST = ("127.0.0.1", 7001)
SECOND = ("::1", 7002)


@cache
def compiled(name: str, define: str = "") -> bytes:
    """The object of a C file beside this one; `define` is prepended, to make another object of it."""
    sources = {**render.render_base(), name: define + (_HERE / name).read_text(encoding="utf-8")}
    return cc.compile_bpf(sources, name)


def desired(*, mark: int = 7, **changes: Any) -> Desired:
    """A bundle for the loader. `mark` is what the program reports as the counter of rule 1."""
    rules = abi.BY_NAME["rule"].pack() + abi.BY_NAME["rule"].pack(counter=mark)
    fields: dict[str, Any] = {
        "base_object": compiled("loader_base.bpf.c"),
        "policy_object": compiled("loader_policy.bpf.c"),
        "tables": {"rules": rules, "blob": b"\x2a text", "endpoints": struct.pack("<2I", 0, 0)},
        "ports": {80: abi.BY_NAME["port_entry"].pack(host_dfa=81)},
        "source_atoms": ((FieldKind.SOURCE_NAMESPACE, "", StringMatch(StringKind.EXACT, "shop")),),
        "source_ip_atoms": ("10.0.0.0/8", "127.0.0.0/8"),
        "endpoints": (FIRST, SECOND),
        "capture": frozenset({FIRST, SECOND}),
    }
    return Desired(**{**fields, **changes})


def workload(cgroup: str, *, name: str = "shop/cart", namespace: str = "shop") -> Workload:
    """A workload whose processes are in `cgroup`."""
    return Workload(name=name, namespace=namespace, cgroup=cgroup, addresses=("10.1.2.3",))
