"""All stages of code generation, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import l7fp
from l7fp import abi
from l7fp.codegen import cc, elf, plan, render
from l7fp.codegen.artifact import FORMAT, Bundle
from l7fp.ir.model import Policy
from l7fp.ir.passes.classify import Classification, Placement, Slow
from l7fp.source import Span

KERNEL_FLOOR = "6.1"
_MAP_TYPES = {
    1: "hash",
    2: "array",
    3: "prog_array",
    5: "percpu_hash",
    6: "percpu_array",
    9: "lru_hash",
    11: "lpm_trie",
    12: "array_of_maps",
    13: "hash_of_maps",
    15: "sockmap",
    18: "sockhash",
    22: "queue",
    23: "stack",
    24: "sk_storage",
    27: "ringbuf",
}


def build(policy: Policy, classification: Classification, compiler: str) -> Bundle:
    """The bundle of `policy`. Raises CompileError."""
    found = cc.find_compiler(compiler)
    planned = plan.build(policy, classification)
    base = cc.compile_bpf(render.render_base(), "base.bpf.c", compiler=compiler)
    mine = cc.compile_bpf(render.render(planned), "policy.bpf.c", compiler=compiler)
    infos = [elf.inspect(base), elf.inspect(mine)]
    for info in infos:
        elf.check(info)
    coverage = _coverage(policy, classification, dict(planned.demoted))
    manifest = {
        "format": FORMAT,
        "l7fp": l7fp.__version__,
        "abi": abi.fingerprint(),
        "compiler": found.label,
        "kernel": {
            "floor": KERNEL_FLOOR,
            "program_types": sorted({program.section for info in infos for program in info.programs}),
            "map_types": sorted({_MAP_TYPES.get(m.type, str(m.type)) for info in infos for m in info.maps}),
            "instructions": {"base": infos[0].instructions, "policy": infos[1].instructions},
        },
        "features": sorted(planned.features),
        "counts": dict(planned.counts),
        "rules": {row["name"]: row["place"] for row in coverage if row["kind"] == "route"},
        "coverage": coverage,
    }
    return Bundle(manifest=manifest, base_object=base, policy_object=mine, plan=planned, policy=policy)


def _coverage(policy: Policy, classification: Classification, demoted: Mapping[str, str]) -> list[dict[str, Any]]:
    rules = {rule.name: rule for table in policy.tables for host in table.virtual_hosts for rule in host.rules}
    rows = [_row("route", r.name, r.span, classification.rules[r.name], demoted.get(r.name)) for r in rules.values()]
    rows += [_row("authorization", p.name, p.span, classification.authz[p.name], None) for p in policy.authz]
    return rows


def _row(kind: str, name: str, span: Span, placement: Placement, demoted: str | None) -> dict[str, Any]:
    reasons = list(_reasons(placement))
    if demoted is not None and not reasons:
        reasons.append({"code": "plan", "message": demoted, "hint": "", "place": str(span)})
    where = "slow path" if reasons else "kernel"
    return {"kind": kind, "name": name, "place": str(span), "where": where, "reasons": reasons}


def _reasons(placement: Placement) -> Iterable[dict[str, Any]]:
    if isinstance(placement, Slow):
        for reason in placement.reasons:
            yield {"code": reason.code, "message": reason.message, "hint": reason.hint, "place": str(reason.span)}
