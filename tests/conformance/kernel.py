"""The kernel itself, by test runs of the decision, edit and reply code: no sockets, no hooks."""

from __future__ import annotations

from l7fp import abi
from l7fp.codegen.plan import Plan
from tests.conformance.compiled import UPSTREAM, planned
from tests.conformance.corpus import Case, Diverted, Outcome
from tests.kernel.decider import Decider
from tests.unit.templates import http1_kernel as ops


class KernelExecutor:
    """Loads one program for each plan, when a case asks for it, and keeps the last: run cases in order."""

    name = "kernel"

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._decider: Decider | None = None

    def __enter__(self) -> KernelExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._decider is not None:
            self._decider.object.close()

    def run(self, case: Case) -> Outcome | Diverted:
        """Play the case."""
        made = planned(case.policy)
        inputs = made.inputs(case)
        if isinstance(inputs, Diverted):
            return inputs
        kernel = self._load(made.plan)
        kernel.clear()
        decision = kernel.decide(
            case.raw,
            port=case.request.port,
            source_bits=inputs.source_bits,
            source_ip_bits=inputs.source_ip_bits,
            random=inputs.random,
        )
        if decision.parsed:
            return Diverted(abi.Reason(decision.parsed).name)
        if decision.verdict == abi.Verdict.DIVERT:
            return Diverted(abi.Reason(decision.reason).name)
        counter = abi.BY_NAME["rule"].unpack(_record(made.plan.tables["rules"], "rule", decision.rule))["counter"]
        assert isinstance(counter, int)
        rule = made.plan.rule_names[counter]
        if decision.verdict == abi.Verdict.REPLY:
            return made.replied(rule, _changed(kernel, ops.REPLY, case.raw, decision.reply))
        to, back = made.edits(decision.dest)
        request = case.raw if to == abi.NONE else _changed(kernel, ops.EDIT_REQUEST, case.raw, to)
        result, response = kernel.change(ops.EDIT_RESPONSE, UPSTREAM, back)
        refused = result == abi.Reason.DUPLICATE_HEADER
        assert result == 0 or refused, result
        return made.forwarded(decision.dest, rule, request, None if refused else response)

    def _load(self, plan: Plan) -> Decider:
        if self._decider is None or plan != self._plan:
            self.__exit__()
            self._plan, self._decider = plan, Decider(plan)
        return self._decider


def _record(table: bytes, kind: str, index: int) -> bytes:
    size = abi.BY_NAME[kind].size
    return table[index * size : (index + 1) * size]


def _changed(kernel: Decider, op: int, message: bytes, arg: int) -> bytes:
    result, data = kernel.change(op, message, arg)
    assert result == 0, f"operation {op}: {result}"
    return data
