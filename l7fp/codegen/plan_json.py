"""A plan as JSON values, its tables apart, and as text to read and compare."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from l7fp import abi
from l7fp.codegen.plan import Plan
from l7fp.codegen.routes import DestInfo
from l7fp.codegen.tables import element_size
from l7fp.ir.model import Endpoint, FieldKind, StringKind, StringMatch

_NUMBERS = ("header_dfa", "response_header_dfa", "query_dfa", "method_dfa", "host_bits_dfa", "n_bits")


def dump(plan: Plan) -> dict[str, Any]:
    """All but the tables."""
    return {
        **{name: getattr(plan, name) for name in _NUMBERS},
        "ports": {str(port): entry.hex() for port, entry in sorted(plan.ports.items())},
        "source_atoms": [[k.value, name, m.kind.value, m.value, m.ignore_case] for k, name, m in plan.source_atoms],
        "source_ip_atoms": list(plan.source_ip_atoms),
        "endpoints": [[e.address, e.port, e.workload, e.weight] for e in plan.endpoints],
        "rule_names": list(plan.rule_names),
        "authz_names": list(plan.authz_names),
        "dests": [[d.rule, d.position, d.cluster] for d in plan.dests],
        "clusters": list(plan.clusters),
        "features": sorted(plan.features),
        "demoted": [list(pair) for pair in plan.demoted],
    }


def load(values: Mapping[str, Any], tables: dict[str, bytes]) -> Plan:
    """Undoes `dump`. Raises KeyError, ValueError or TypeError for values that are none."""
    return Plan(
        tables=tables,
        counts={name: len(data) // element_size(name) for name, data in tables.items()},
        ports={int(port): bytes.fromhex(entry) for port, entry in values["ports"].items()},
        source_atoms=tuple(
            (FieldKind(k), name, StringMatch(StringKind(kind), value, fold))
            for k, name, kind, value, fold in values["source_atoms"]
        ),
        source_ip_atoms=tuple(values["source_ip_atoms"]),
        endpoints=tuple(
            Endpoint(address=address, port=port, workload=workload, weight=weight)
            for address, port, workload, weight in values["endpoints"]
        ),
        rule_names=tuple(values["rule_names"]),
        authz_names=tuple(values["authz_names"]),
        dests=tuple(DestInfo(*row) for row in values["dests"]),
        clusters=tuple(values["clusters"]),
        features=frozenset(values["features"]),
        demoted=tuple((name, why) for name, why in values["demoted"]),
        **{name: int(values[name]) for name in _NUMBERS},
    )


def text(plan: Plan) -> str:
    """The plan for people: records by table, decision programs as instructions, automata by their size."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    for name, value in dump(plan).items():
        yield f"{name} = {value}"
    for table in abi.TABLES:
        data = plan.tables[table.name]
        if table.name == "cells":
            used = sum(1 for (cell,) in struct.iter_unpack("<Q", data) if cell)
            yield f"cells: {plan.counts['cells']}, {used} in use"
        elif table.name == "blob":
            yield f"blob = {data.rstrip(bytes(1))!r}"
        elif table.element in abi.BY_NAME:
            record = abi.BY_NAME[table.element]
            for n in range(plan.counts[table.name]):
                row = record.unpack(data[n * record.size : (n + 1) * record.size])
                shown = _instruction(row) if table.name == "code" else _record(row)
                yield f"{table.name}[{n}] {shown}"
        elif table.name == "masks":
            for n, (mask,) in enumerate(struct.iter_unpack("<Q", data)):
                yield f"masks[{n}] {mask:#x}"


def _record(row: Mapping[str, int | tuple[int, ...]]) -> str:
    shown = []
    for name, value in row.items():
        if name != "_pad":
            shown.append(f"{name}={'-' if value == abi.NONE else value}")
    return " ".join(shown)


def _instruction(row: Mapping[str, int | tuple[int, ...]]) -> str:
    op, mask = abi.Op(int(str(row["op"]))), int(str(row["mask"]))
    match op:
        case abi.Op.END:
            return f"END {row['target']:#x}" if isinstance(row["target"], int) else "END"
        case abi.Op.JUMP:
            return f"JUMP {row['target']}"
        case _:
            return f"{op.name} word {row['slot']} mask {mask:#x} else {row['target']}"
