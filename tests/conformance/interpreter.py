"""The interpreter as an executor of the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from l7fp.ir import edits
from l7fp.ir.interp import Decision, DecisionKind, Interpreter
from l7fp.ir.model import Policy, Route
from tests.conformance.corpus import UPSTREAM_HEADERS, Case, Outcome

_interpreter = lru_cache(maxsize=None)(Interpreter)


class InterpreterExecutor:
    """`ir.interp`, with the case's picks."""

    name = "interp"

    def __enter__(self) -> InterpreterExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

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


@dataclass(frozen=True, slots=True)
class Choices:
    """Random choices that the case's request leads to: (what is drawn, of how many); None where there is none."""

    destination: tuple[int, int] | None
    endpoint: tuple[int, int] | None


def choices(case: Case) -> Choices:
    """For executors that can be told what to draw, or have to try until they draw it."""
    picks, drawn = list(case.pick), []

    def pick(n: int) -> int:
        drawn.append((picks.pop(0) if picks else 0, n))
        return drawn[-1][0]

    action = getattr(_interpreter(case.policy).decide(case.request, pick=pick).rule, "action", None)
    several = isinstance(action, Route) and sum(d.weight > 0 for d in action.destinations) > 1
    first = drawn.pop(0) if several else None
    return Choices(first, drawn[0] if drawn else None)


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
