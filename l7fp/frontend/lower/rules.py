"""The rules that a VirtualService gives one port, and what clients it doesn't concern get."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from l7fp.frontend.ast import Object
from l7fp.frontend.lower.actions import DEFAULT_RETRY, Actions
from l7fp.frontend.lower.clusters import Clusters
from l7fp.frontend.lower.context import Context, ServiceInfo
from l7fp.frontend.lower.matches import PREFIX_OF_ALL, lower_match, source_conditions
from l7fp.frontend.virtual_service import HttpMatch, HttpRoute, VirtualService
from l7fp.ir import model
from l7fp.ir.model import Condition, Destination, Field, FieldKind, Match, Route, Rule, StringKind

MESH = "mesh"
MAX_FALLBACK_MATCHES = 64


@dataclass(frozen=True, slots=True)
class PortRules:
    """`rules` in order, named for one VirtualService. `for_others` are the matches of clients that no rule concerns
    (by their labels or namespace), whom the service's default serves; None: every client is concerned."""

    rules: tuple[Rule, ...]
    for_others: tuple[Match, ...] | None


def lower_rules(item: Object, service: VirtualService, port: int, context: Context, clusters: Clusters) -> PortRules:
    """Rules of a VirtualService for requests to `port`. No rules: it has no say there."""
    actions = Actions(context, clusters, item.namespace, port)
    visibility = _visibility(item, service)
    rules: list[Rule] = []
    guards: set[tuple[Condition, ...]] = set()
    for index, route in enumerate(service.http):
        blocks = [block for block in route.match if _concerns(block, port)]
        if route.match and not blocks:
            continue
        for block in blocks:
            guards.add((*visibility, *source_conditions(block)))
        if not blocks:
            guards.add(visibility)
        matches = tuple(_with(lower_match(block, context), visibility) for block in blocks)
        if not matches and visibility:
            matches = (Match(conditions=visibility, span=route.span),)
        if _replaces_prefix(route):
            matches = tuple(_with_path(match) for match in matches or (Match(span=route.span),))
        prefix = any(block.uri is None or block.uri.prefix is not None for block in blocks) or not blocks
        action = actions.lower(route, prefix_matched=prefix)
        if action is not None:
            name = f"{item.namespace}/{item.name}/http[{index}]"
            rules.append(Rule(name=name, action=action, matches=matches, span=route.span))
    others = None
    if rules and all(guards) and guards:
        others = _none_of(guards)
        if others is None:
            hint = "give one rule without sourceLabels, sourceNamespace and exportTo"
            message = "too many different conditions on clients to tell whom the default route serves"
            context.sink.error("L7FP315", item.span, f"{item}: {message}", hint)
    return PortRules(tuple(rules), others)


def default_rule(service: ServiceInfo, port: int, clusters: Clusters, matches: tuple[Match, ...] = ()) -> Rule:
    """What Istio routes where no VirtualService has a say: any request to the service, default retries."""
    cluster = clusters.get(service, port)
    assert cluster is not None  # no subset was asked for
    route = Route(destinations=(Destination(cluster=cluster, span=service.span),), retry=DEFAULT_RETRY)
    return Rule(name=f"{service.host}:{port}/default", action=route, matches=matches, span=service.span)


def report_gateways(item: Object, service: VirtualService, context: Context) -> bool:
    """Whether the VirtualService is bound to the mesh; warn of what is bound to other gateways."""
    names = [gateway.value for gateway in service.gateways]
    others = [gateway for gateway in service.gateways if gateway.value != MESH]
    if others:
        listed = ", ".join(gateway.value for gateway in others)
        hint = "l7fp serves the gateway `mesh` only" if MESH in names else "add `mesh` to gateways to have it here"
        context.sink.warning("L7FP406", others[0].span, f"{item}: not enforced for gateway {listed}", hint)
    return not names or MESH in names


def report_blocks(item: Object, service: VirtualService, context: Context) -> None:
    """Warn of match blocks that are for other gateways only."""
    for route in service.http:
        for block in route.match:
            if block.gateways and MESH not in [gateway.value for gateway in block.gateways]:
                listed = ", ".join(gateway.value for gateway in block.gateways)
                message = f"{item}: a match for gateway {listed} only is not enforced"
                context.sink.warning("L7FP406", block.span, message, "l7fp serves the gateway `mesh` only")


def _concerns(block: HttpMatch, port: int) -> bool:
    if block.gateways and MESH not in [gateway.value for gateway in block.gateways]:
        return False
    return block.port is None or block.port.value == port


def _visibility(item: Object, service: VirtualService) -> tuple[Condition, ...]:
    """exportTo as a condition on the client's namespace."""
    scopes = [scope.value for scope in service.export_to]
    if not scopes or "*" in scopes:
        return ()
    names = sorted({item.namespace if scope == "." else scope for scope in scopes if scope != "~"})
    matchers = tuple(model.StringMatch(StringKind.EXACT, name) for name in names)
    field = Field(FieldKind.SOURCE_NAMESPACE)
    return (Condition(field=field, any_of=matchers, span=service.export_to[0].span),)


def _replaces_prefix(route: HttpRoute) -> bool:
    rewritten = route.rewrite is not None and route.rewrite.uri is not None
    return rewritten or (route.redirect is not None and route.redirect.prefix_rewrite is not None)


def _with_path(match: Match) -> Match:
    """Make the implied prefix `/` explicit, as it is what a rewrite replaces."""
    if any(condition.field.kind is FieldKind.PATH for condition in match.conditions):
        return match
    return replace(match, conditions=(PREFIX_OF_ALL, *match.conditions))


def _with(match: Match, conditions: tuple[Condition, ...]) -> Match:
    return replace(match, conditions=(*match.conditions, *conditions)) if conditions else match


def _none_of(guards: set[tuple[Condition, ...]]) -> tuple[Match, ...] | None:
    """Matches that hold exactly where no guard (a conjunction each) does; None when they would be too many."""
    ordered = sorted(guards, key=lambda guard: tuple(condition.span for condition in guard))
    count = 1
    for guard in ordered:
        count *= len(guard)
    if count > MAX_FALLBACK_MATCHES:
        return None
    made: list[Match] = []
    for picked in itertools.product(*ordered):
        negated = (replace(condition, negate=not condition.negate) for condition in picked)
        made.append(Match(conditions=tuple(dict.fromkeys(negated)), span=picked[0].span))
    return tuple(dict.fromkeys(made))
