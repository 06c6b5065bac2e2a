"""Annotations that change what a mesh does: ours must be known, Istio's are named where they have no effect."""

from __future__ import annotations

from l7fp.diagnostics import Diagnostics
from l7fp.frontend.ast import Ast
from l7fp.frontend.lower.workloads import CGROUP_ANNOTATION
from l7fp.frontend.schema import did_you_mean

_OURS = (CGROUP_ANNOTATION,)
_PREFIX = "l7fp.io/"
_WITHOUT_EFFECT = ("networking.istio.io/exportTo", "traffic.sidecar.istio.io/")


def report(ast: Ast, sink: Diagnostics) -> None:
    """Findings about the annotations of all objects."""
    for item in ast.objects:
        for name, _ in item.metadata.annotations:
            if name.value.startswith(_PREFIX) and name.value not in _OURS:
                hint = f"{did_you_mean(name.value, _OURS)} possible: {', '.join(_OURS)}".strip()
                sink.error("L7FP201", name.span, f"{item}: unknown annotation `{name.value}`", hint)
            elif name.value.startswith(_WITHOUT_EFFECT):
                message = f"{item}: annotation `{name.value}` is not enforced"
                sink.warning("L7FP401", name.span, message, "every client sees every service, on all of its HTTP ports")
