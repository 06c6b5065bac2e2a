"""What happens to one request, by which rules, and which path would see to it."""

from __future__ import annotations

from dataclasses import dataclass

from l7fp.ir.interp import Decision, Interpreter, Request, Source
from l7fp.ir.model import Policy, Route, Workload
from l7fp.ir.passes.classify import Classification, Reason, Slow
from l7fp.ir.paths import is_plain
from l7fp.source import NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`reasons` empty: the kernel does it. `shares`: the clusters of the rule's route and their weights."""

    request: Request
    decision: Decision
    reasons: tuple[Reason, ...]
    shares: tuple[tuple[str, int], ...]

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel would do it, were the request written in the plainest way."""
        return not self.reasons


def explain(policy: Policy, classification: Classification, request: Request) -> Explanation:
    """Decide `request` with its trail. Among weighted destinations and endpoints the first usable one is taken."""
    decision = Interpreter(policy).decide(request, pick=lambda n: 0, trace=True)
    action = decision.rule.action if decision.rule else None
    shares = tuple((d.cluster, d.weight) for d in action.destinations) if isinstance(action, Route) else ()
    reasons = _reasons(policy, classification, request, decision)
    return Explanation(request=request, decision=decision, reasons=reasons, shares=shares)


def _reasons(
    policy: Policy, classification: Classification, request: Request, decision: Decision
) -> tuple[Reason, ...]:
    found: list[Reason] = []
    if all(table.port != request.port for table in policy.tables):
        message = f"no service has port {request.port}, so connections to it are not captured"
        found.append(Reason("port-unknown", NOWHERE, message, "name a port of a Service or ServiceEntry"))
    path = request.target.partition("?")[0]
    if not is_plain(path):
        message = f"the path {path!r} has to be normalised first"
        found.append(Reason("path-not-plain", NOWHERE, message, "send it without %, //, /./ and the like"))
    if decision.rule is not None:
        placement = classification.rules[decision.rule.name]
        found += placement.reasons if isinstance(placement, Slow) else ()
    for name in _guards(policy, decision):
        placement = classification.authz[name]
        found += placement.reasons if isinstance(placement, Slow) else ()
    return tuple(found)


def _guards(policy: Policy, decision: Decision) -> tuple[str, ...]:
    """Authorization policies of the endpoint that the request would go to."""
    if decision.endpoint is None:
        return ()
    guarded = [w for w in policy.workloads if w.name == decision.endpoint.workload]
    return guarded[0].policies if guarded else ()


def source_of(policy: Policy, name: str) -> Source | None:
    """The workload `NAMESPACE/NAME`, or `NAME` where only one is called so, as a source; None if there is none."""
    found = [w for w in policy.workloads if name in (w.name, w.name.rpartition("/")[2])]
    return as_source(found[0]) if len(found) == 1 else None


def as_source(workload: Workload) -> Source:
    """What a server knows of a client that is `workload`."""
    return Source(
        workload=workload.name,
        namespace=workload.namespace,
        principal=workload.principal,
        labels=workload.labels,
        ip=next(iter(workload.addresses), ""),
    )
