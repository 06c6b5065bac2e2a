"""The trail of a decision: each thing that was looked at, with its place in the policy and its outcome.

Built after the fact by asking the same conditions again, so that deciding pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from l7fp.ir.authorize import CompiledPolicy, stance_of
from l7fp.ir.conditions import Stance, compile_condition
from l7fp.ir.describe import condition_text, observed_text
from l7fp.ir.model import AuthzAction, AuthzPolicy, AuthzRule, Condition, DirectResponse, Match, Redirect
from l7fp.ir.paths import normalize
from l7fp.ir.request import Request, RequestView
from l7fp.source import NOWHERE, Span

if TYPE_CHECKING:
    from l7fp.ir.compiled import CompiledMatch
    from l7fp.ir.decision import Decision
    from l7fp.ir.interp import Interpreter


class Steps:
    """Collects (place, text, outcome)."""

    def __init__(self) -> None:
        self.items: list[tuple[Span, str, bool]] = []

    def add(self, span: Span, text: str, outcome: bool) -> None:
        self.items.append((span, text, outcome))


def trail(interpreter: Interpreter, request: Request, decision: Decision) -> list[tuple[Span, str, bool]]:
    """What led from `request` to `decision`, which `interpreter` made of it, in order."""
    steps = Steps()
    mode = interpreter.policy.path_normalization
    target = normalize(request.target, mode)
    if target is None:
        steps.add(NOWHERE, f"{request.target!r} is not a path that {mode.value} normalisation accepts", False)
        return steps.items
    if target != request.target:
        steps.add(NOWHERE, f"path normalised ({mode.value}): {request.target} becomes {target}", True)
        request = replace(request, target=target)
    table = interpreter.tables.get(request.port)
    if table is None:
        steps.add(NOWHERE, f"no route table for port {request.port}", False)
        return steps.items
    number = table.index.find(request.authority, request.destination_ip)
    if number is None:
        steps.add(NOWHERE, f"no virtual host of port {request.port} takes {request.authority!r}", False)
        return steps.items
    host = table.hosts[number]
    steps.add(host.host.span, f"virtual host {host.host.name} takes {request.authority!r} on port {request.port}", True)
    view = RequestView(request, request.port, request.destination_ip)
    for entry in host.matches:
        if _match_step(steps, entry, view):
            break
    else:
        steps.add(host.host.span, f"no rule of {host.host.name} holds", False)
        return steps.items
    _action_steps(steps, request, decision)
    if decision.endpoint is not None:
        _authorization_steps(steps, interpreter, decision)
    return steps.items


def first_failed(match: Match | None, stance: Stance, view: RequestView) -> Condition | None:
    """The first condition that does not hold, None when all do."""
    for condition in match.conditions if match is not None else ():
        if not compile_condition(condition, stance)(view):
            return condition
    return None


def _match_step(steps: Steps, entry: CompiledMatch, view: RequestView) -> bool:
    name = f"{entry.rule.name} match[{entry.index}]" if len(entry.rule.matches) > 1 else entry.rule.name
    failed = first_failed(entry.match, Stance.ROUTE, view)
    if failed is None:
        steps.add(entry.match.span if entry.match is not None else entry.rule.span, f"{name} holds", True)
        return True
    text = f"{name} wants {condition_text(failed)}, but {observed_text(view, failed.field)}"
    steps.add(failed.span if failed.span != NOWHERE else entry.rule.span, text, False)
    return False


def _action_steps(steps: Steps, request: Request, decision: Decision) -> None:
    rule = decision.rule
    assert rule is not None
    if isinstance(rule.action, Redirect | DirectResponse):
        steps.add(rule.span, f"answered here: {decision.status} {decision.code}", True)
        return
    destination = decision.destination
    if destination is None:
        steps.add(rule.span, "no destination has weight", False)
        return
    if len(rule.action.destinations) > 1:
        total = sum(d.weight for d in rule.action.destinations)
        steps.add(destination.span, f"destination {destination.cluster} by weight {destination.weight}/{total}", True)
    else:
        steps.add(destination.span, f"destination {destination.cluster}", True)
    edited = decision.request
    if edited.headers != request.headers:
        steps.add(rule.span, "request headers edited", True)
    if edited.authority != request.authority:
        steps.add(rule.span, f"authority rewritten: {request.authority} becomes {edited.authority}", True)
    if edited.target != request.target:
        steps.add(rule.span, f"path rewritten: {request.target} becomes {edited.target}", True)
    if decision.endpoint is not None:
        end = decision.endpoint
        serves = f" of {end.workload}" if end.workload else ""
        steps.add(end.span, f"endpoint {end.address} port {end.port}{serves}", True)
    elif decision.status:
        steps.add(rule.span, f"answered here: {decision.status} {decision.code}", False)


def _authorization_steps(steps: Steps, interpreter: Interpreter, decision: Decision) -> None:
    endpoint = decision.endpoint
    assert endpoint is not None
    workload = next((w for w in interpreter.policy.workloads if w.name == endpoint.workload), None)
    if workload is None or not workload.policies:
        steps.add(endpoint.span, "no authorization policy guards the endpoint", True)
        return
    view = RequestView(decision.request, endpoint.port, endpoint.address)
    own = [p for p in interpreter.policy.authz if p.name in workload.policies]
    order = {AuthzAction.DENY: 0, AuthzAction.ALLOW: 1, AuthzAction.AUDIT: 2}
    for policy in sorted(own, key=lambda p: (order[p.action], workload.policies.index(p.name))):
        held = CompiledPolicy(policy).holds(view)
        reason = "" if held else _near_miss(policy, view)
        text = f"{policy.action.value} policy {policy.name} {'holds' if held else 'does not hold'}{reason}"
        steps.add(policy.span, text, held)
    allowed = decision.code != "rbac_access_denied"
    if any(p.action is AuthzAction.ALLOW for p in own) or not allowed:
        denies = any(p.action is AuthzAction.DENY and p.name == decision.policy for p in own)
        by = f" by {decision.policy}" if allowed or denies else ": no ALLOW policy holds"
        steps.add(workload.span, f"{workload.name} {'allows' if allowed else 'denies'} it{by}", allowed)


def _near_miss(policy: AuthzPolicy, view: RequestView) -> str:
    """Why the rule of a policy that came furthest does not hold."""
    best: tuple[int, Condition] | None = None
    for rule in policy.rules:
        for depth, failed in _failures(rule, policy, view):
            if best is None or depth > best[0]:
                best = depth, failed
    if best is None:
        return ": it has no rules" if not policy.rules else ""
    return f": it wants {condition_text(best[1])}, but {observed_text(view, best[1].field)}"


def _failures(rule: AuthzRule, policy: AuthzPolicy, view: RequestView) -> Iterator[tuple[int, Condition]]:
    """(how many parts held before, first condition that failed) of one rule."""
    stance = stance_of(policy)
    for depth, part in enumerate((rule.sources, rule.operations, (rule.when,))):
        failures = [first_failed(match, stance, view) for match in part]
        if part and all(f is not None for f in failures):
            yield from ((depth, f) for f in failures if f is not None)
            return
