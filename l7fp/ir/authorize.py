"""Authorization in Istio's order: any DENY that holds denies; without ALLOW policies the rest is allowed;
otherwise an ALLOW must hold. AUDIT changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from l7fp.ir.conditions import Predicate, Stance, compile_condition
from l7fp.ir.model import AuthzAction, AuthzPolicy, AuthzRule, Match, Workload
from l7fp.ir.request import RequestView

_Conjunction = tuple[Predicate, ...]


class _CompiledRule:
    __slots__ = ("operations", "sources", "when")

    def __init__(self, rule: AuthzRule, stance: Stance) -> None:
        self.sources = tuple(_conjunction(m, stance) for m in rule.sources)
        self.operations = tuple(_conjunction(m, stance) for m in rule.operations)
        self.when = _conjunction(rule.when, stance)

    def holds(self, view: RequestView) -> bool:
        if self.sources and not any(_all(preds, view) for preds in self.sources):
            return False
        if self.operations and not any(_all(preds, view) for preds in self.operations):
            return False
        return _all(self.when, view)


def _conjunction(match: Match, stance: Stance) -> _Conjunction:
    return tuple(compile_condition(c, stance) for c in match.conditions)


def _all(predicates: _Conjunction, view: RequestView) -> bool:
    for predicate in predicates:  # noqa: SIM110 - a loop costs half of all(...)
        if not predicate(view):
            return False
    return True


def stance_of(policy: AuthzPolicy) -> Stance:
    """How the policy reads repeated headers and ambiguous identities."""
    return Stance.ALLOW if policy.action is AuthzAction.ALLOW else Stance.DENY


class CompiledPolicy:
    """One authorization policy, ready to be asked."""

    __slots__ = ("_rules", "name")

    def __init__(self, policy: AuthzPolicy) -> None:
        self.name = policy.name
        self._rules = tuple(_CompiledRule(rule, stance_of(policy)) for rule in policy.rules)

    def holds(self, view: RequestView) -> bool:
        """Whether any rule holds."""
        return any(rule.holds(view) for rule in self._rules)


class Guard:
    """The policies of one workload. `verdict` is (allowed, name of the policy that decided): the DENY or
    ALLOW policy that held; the first ALLOW policy when none of them held; empty when there is none."""

    __slots__ = ("_allows", "_denies")

    def __init__(self, workload: Workload, policies: Mapping[str, tuple[AuthzPolicy, CompiledPolicy]]) -> None:
        own = [policies[name] for name in workload.policies]
        self._denies = tuple(c for p, c in own if p.action is AuthzAction.DENY)
        self._allows = tuple(c for p, c in own if p.action is AuthzAction.ALLOW)

    def __bool__(self) -> bool:
        return bool(self._denies or self._allows)

    def verdict(self, view: RequestView) -> tuple[bool, str]:
        """Whether the request may pass, and by which policy."""
        for policy in self._denies:
            if policy.holds(view):
                return False, policy.name
        if not self._allows:
            return True, ""
        for policy in self._allows:
            if policy.holds(view):
                return True, policy.name
        return False, self._allows[0].name
