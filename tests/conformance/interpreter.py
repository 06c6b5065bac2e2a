"""The interpreter as an executor of the corpus."""

from __future__ import annotations

from functools import lru_cache

from l7fp.ir import edits
from l7fp.ir.interp import Decision, DecisionKind, Interpreter
from l7fp.ir.model import Policy
from tests.conformance.corpus import UPSTREAM_HEADERS, Case, Outcome

_interpreter = lru_cache(maxsize=None)(Interpreter)


class InterpreterExecutor:
    """`ir.interp`, with the case's picks."""

    name = "interpreter"

    def run(self, case: Case) -> Outcome:
        """Decide the request."""
        return outcome(decide(case.policy, case))


def decide(policy: Policy, case: Case) -> Decision:
    """The decision about the case's request under `policy`."""
    picks = list(case.pick)

    def pick(n: int) -> int:
        at = picks.pop(0) if picks else 0
        assert 0 <= at < n, f"{at} can't be picked of {n}"
        return at

    return _interpreter(policy).decide(case.request, pick=pick)


def outcome(decision: Decision) -> Outcome:
    """The decision in the corpus's terms."""
    forwards = decision.kind is DecisionKind.FORWARD
    reply = UPSTREAM_HEADERS if forwards else decision.reply_headers
    for change in decision.response_edits:
        reply = edits.apply(change, reply)
    end = decision.endpoint
    return Outcome(
        forward=decision.cluster if forwards else None,
        status=None if forwards else decision.status,
        endpoint=end.address if end is not None else "",
        code=decision.code,
        body=decision.reply_body,
        rule=decision.rule.name if decision.rule is not None else "",
        policy=decision.policy,
        path=decision.request.target,
        authority=decision.request.authority,
        sent=decision.request.headers,
        reply=reply,
    )
