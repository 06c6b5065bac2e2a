"""The semantics: what a policy does to a request. Every executor is held to this one.

Order of events: normalise the path (`paths`); find the route table by port, the virtual host by Host
(`hosts`), the first rule that holds; reply, or pick a destination by weight, apply the destination's
header edits, then the route's, then rewrite authority and path; pick an endpoint; ask the authorization
policies of its workload about the request as edited.

Fine points, all of them Envoy's and checked against it:

- a rewritten path is normalised again, so that authorization and server see one normal path (what a
  second sidecar would do); a rewrite that makes an impossible path is answered 400;
- authorization happens at the endpoint: destination port and address are the endpoint's;
- response edits of the chosen destination and route apply to every reply that is made once a rule is
  chosen, denials included; a body without content-type then gets `text/plain`;
- content-length, date and the like are left to the executor that writes the message.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from l7fp.ir import edits as header_edits
from l7fp.ir.authorize import CompiledPolicy, Guard
from l7fp.ir.conditions import Predicate, Stance, compile_condition
from l7fp.ir.hosts import HostIndex
from l7fp.ir.model import (
    NO_EDITS,
    Cluster,
    Destination,
    DirectResponse,
    Endpoint,
    HeaderEdits,
    Match,
    PathNormalization,
    Policy,
    Redirect,
    RetryPolicy,
    Route,
    RouteTable,
    Rule,
    VirtualHost,
)
from l7fp.ir.paths import normalize
from l7fp.ir.request import Request, RequestView, Source
from l7fp.ir.rewrite import compile_rewrite, location, own_location
from l7fp.source import Span

__all__ = ["DENIED_BODY", "Decision", "DecisionKind", "Interpreter", "Request", "Source", "Step"]

DENIED_BODY = "RBAC: access denied"
_NO_UPSTREAM_BODY = "no healthy upstream"

Pick = Callable[[int], int]
Balance = Callable[[Cluster], Endpoint | None]


def random_pick(n: int) -> int:
    """An integer in [0, n)."""
    return int(random.random() * n)


class DecisionKind(Enum):
    """What happens to the request."""

    FORWARD = "forward"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the trail: what was looked at, where it is written, and whether it held."""

    span: Span
    text: str
    outcome: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome. `status`, `reply_headers` and `reply_body` are those of a REPLY (else 0 and empty).

    `code` is Envoy's response code detail: via_upstream, direct_response, redirect, rbac_access_denied,
    route_not_found, bad_path, no_healthy_upstream, cluster_not_found. `request` is what goes upstream.
    `response_edits` are to be applied in order to the upstream's answer; those of a REPLY are already in
    `reply_headers`. `match_index` is the match of `rule` that held, -1 for a rule without matches.
    `policy` is the authorization policy that decided. `trail` is filled for `trace=True` only.
    """

    kind: DecisionKind
    status: int
    code: str
    request: Request
    rule: Rule | None = None
    virtual_host: str = ""
    match_index: int = -1
    destination: Destination | None = None
    cluster: str = ""
    endpoint: Endpoint | None = None
    response_edits: tuple[HeaderEdits, ...] = ()
    reply_headers: tuple[tuple[str, str], ...] = ()
    reply_body: str = ""
    timeout_ms: int | None = None
    retry: RetryPolicy | None = None
    policy: str = ""
    trail: tuple[Step, ...] = ()


class CompiledMatch:
    """One match of one rule, ready to be asked; `path_change` is its rule's rewrite as this match has it."""

    __slots__ = ("index", "match", "path_change", "predicates", "rule")

    def __init__(self, rule: Rule, index: int) -> None:
        self.rule = rule
        self.index = index
        self.match: Match | None = rule.matches[index] if index >= 0 else None
        conditions = self.match.conditions if self.match is not None else ()
        self.predicates: tuple[Predicate, ...] = tuple(compile_condition(c, Stance.ROUTE) for c in conditions)
        rewrite = rule.action.path_rewrite if isinstance(rule.action, Route) else None
        self.path_change = compile_rewrite(rewrite, self.match) if rewrite is not None else None


class CompiledHost:
    """One virtual host: all matches of all its rules in first-match order."""

    __slots__ = ("host", "matches")

    def __init__(self, host: VirtualHost) -> None:
        self.host = host
        self.matches = tuple(
            CompiledMatch(rule, index) for rule in host.rules for index in (range(len(rule.matches)) or (-1,))
        )


class CompiledTable:
    """One route table."""

    __slots__ = ("hosts", "index")

    def __init__(self, table: RouteTable) -> None:
        self.index = HostIndex(table)
        self.hosts = tuple(CompiledHost(host) for host in table.virtual_hosts)


class Interpreter:
    """A policy made ready for decisions. Immutable after construction; safe to share.

    Raises `UnavailableError` when the policy needs google-re2 and it is absent, ValueError for patterns
    that are not valid (`ir.verify` finds both first).
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tables = {table.port: CompiledTable(table) for table in policy.tables}
        self.clusters = {cluster.name: cluster for cluster in policy.clusters}
        compiled = {p.name: (p, CompiledPolicy(p)) for p in policy.authz}
        guards = {w.name: Guard(w, compiled) for w in policy.workloads}
        self._guards = {name: guard for name, guard in guards.items() if guard}

    def decide(
        self,
        request: Request,
        *,
        pick: Pick = random_pick,
        endpoint: Endpoint | None = None,
        balance: Balance | None = None,
        trace: bool = False,
    ) -> Decision:
        """The decision for one request.

        `pick(n)` returns an integer in [0, n); it is asked for the destination when several have weight,
        then for the endpoint. Who balances itself passes `endpoint`, or `balance`, which gets the chosen
        cluster and returns one of its endpoints or None (answered 503).
        """
        decision = self._decide(request, pick, endpoint, balance)
        if not trace:
            return decision
        from l7fp.ir.trail import trail  # only explanations need it

        return replace(decision, trail=tuple(Step(*step) for step in trail(self, request, decision)))

    def authorize(self, request: Request, workload: str) -> tuple[bool, str]:
        """Whether `workload`'s policies let `request` pass, and the policy that decided: see `authorize.Guard`.

        The request is as that workload would see it: edited, `port` and `destination_ip` its own."""
        guard = self._guards.get(workload)
        if guard is None:
            return True, ""
        return guard.verdict(RequestView(request, request.port, request.destination_ip))

    def _decide(self, request: Request, pick: Pick, endpoint: Endpoint | None, balance: Balance | None) -> Decision:
        target = normalize(request.target, self.policy.path_normalization)
        if target is None:
            return Decision(kind=DecisionKind.REPLY, status=400, code="bad_path", request=request)
        if target != request.target:
            request = replace(request, target=target)
        table = self.tables.get(request.port)
        number = table.index.find(request.authority, request.destination_ip) if table is not None else None
        if table is None or number is None:
            return Decision(kind=DecisionKind.REPLY, status=404, code="route_not_found", request=request)
        host = table.hosts[number]
        view = RequestView(request, request.port, request.destination_ip)
        for entry in host.matches:
            for predicate in entry.predicates:
                if not predicate(view):
                    break
            else:
                return self._act(request, host.host.name, entry, pick, endpoint, balance)
        name = host.host.name
        return Decision(kind=DecisionKind.REPLY, status=404, code="route_not_found", request=request, virtual_host=name)

    def _act(
        self,
        request: Request,
        host: str,
        entry: CompiledMatch,
        pick: Pick,
        endpoint: Endpoint | None,
        balance: Balance | None,
    ) -> Decision:
        action = entry.rule.action
        match action:
            case Route():
                return self._route(request, host, entry, action, pick, endpoint, balance)
            case Redirect():
                code, headers, body = "redirect", [("location", location(action, entry.match, request))], ""
            case DirectResponse():
                own = own_location(action, request)
                code, headers, body = "direct_response", [("location", own)] if own else [], action.body
        return Decision(
            kind=DecisionKind.REPLY,
            status=action.status,
            code=code,
            request=request,
            rule=entry.rule,
            virtual_host=host,
            match_index=entry.index,
            reply_headers=reply_headers(tuple(headers), body, action.response_headers),
            reply_body=body,
        )

    def _route(
        self,
        request: Request,
        host: str,
        entry: CompiledMatch,
        route: Route,
        pick: Pick,
        endpoint: Endpoint | None,
        balance: Balance | None,
    ) -> Decision:
        destination = pick_destination(route, pick)
        edited = edit_request(request, route, destination, entry, self.policy.path_normalization)
        cluster = self.clusters.get(destination.cluster) if destination is not None else None
        if edited is None:
            status, code, body, policy = 400, "bad_path", "", ""
            edited = request
        elif cluster is None:
            status, code, body, policy = 503, "cluster_not_found", "", ""
        else:
            if endpoint is None:
                endpoint = balance(cluster) if balance is not None else pick_endpoint(cluster, pick)
            status, code, body, policy = self._admit(edited, endpoint)
        response_edits: tuple[HeaderEdits, ...] = ()
        if destination is not None and destination.response_headers:
            response_edits = (destination.response_headers,)
        if route.response_headers:
            response_edits += (route.response_headers,)
        return Decision(
            kind=DecisionKind.REPLY if status else DecisionKind.FORWARD,
            status=status,
            code=code,
            request=edited,
            rule=entry.rule,
            virtual_host=host,
            match_index=entry.index,
            destination=destination,
            cluster=destination.cluster if destination is not None else "",
            endpoint=endpoint,
            response_edits=() if status else response_edits,
            reply_headers=reply_headers((), body, *response_edits) if status else (),
            reply_body=body,
            timeout_ms=route.timeout_ms,
            retry=route.retry,
            policy=policy,
        )

    def _admit(self, request: Request, endpoint: Endpoint | None) -> tuple[int, str, str, str]:
        """Status (0: forward), code, body and deciding policy for a request about to go to `endpoint`."""
        if endpoint is None:
            return 503, "no_healthy_upstream", _NO_UPSTREAM_BODY, ""
        guard = self._guards.get(endpoint.workload)
        if guard is None:
            return 0, "via_upstream", "", ""
        allowed, policy = guard.verdict(RequestView(request, endpoint.port, endpoint.address))
        if allowed:
            return 0, "via_upstream", "", policy
        return 403, "rbac_access_denied", DENIED_BODY, policy


def pick_destination(route: Route, pick: Pick) -> Destination | None:
    """A destination by weight; weight 0 is never picked; None when none has weight."""
    if len(route.destinations) == 1 and route.destinations[0].weight > 0:
        return route.destinations[0]
    usable = [d for d in route.destinations if d.weight > 0]
    if len(usable) < 2:
        return usable[0] if usable else None
    at = pick(sum(d.weight for d in usable))
    for destination in usable:
        at -= destination.weight
        if at < 0:
            return destination
    return usable[-1]


def pick_endpoint(cluster: Cluster, pick: Pick) -> Endpoint | None:
    """An endpoint by weight, None when there is none; weight 0 is never picked."""
    usable = [e for e in cluster.endpoints if e.weight > 0]
    if len(usable) < 2:
        return usable[0] if usable else None
    at = pick(sum(e.weight for e in usable))
    for endpoint in usable:
        at -= endpoint.weight
        if at < 0:
            return endpoint
    return usable[-1]


def edit_request(
    request: Request,
    route: Route,
    destination: Destination | None,
    entry: CompiledMatch,
    mode: PathNormalization,
) -> Request | None:
    """The request as it goes upstream: headers of the destination, then of the route, authority, path.

    None when the rewritten path is none that could be sent."""
    first = destination.request_headers if destination is not None else NO_EDITS
    headers = request.headers
    if first:
        headers = header_edits.apply(first, headers)
    if route.request_headers:
        headers = header_edits.apply(route.request_headers, headers)
    target = request.target
    if entry.path_change is not None:
        changed = normalize(entry.path_change(request.path) + request.query, mode)
        if changed is None:
            return None
        target = changed
    authority = route.authority_rewrite or request.authority
    if headers is request.headers and target == request.target and authority == request.authority:
        return request
    return replace(request, headers=headers, target=target, authority=authority)


def reply_headers(headers: tuple[tuple[str, str], ...], body: str, *edits: HeaderEdits) -> tuple[tuple[str, str], ...]:
    """Headers of a reply made here, after its edits, with the content-type that a body needs."""
    for edit in edits:
        headers = header_edits.apply(edit, headers)
    if not body:
        return tuple(item for item in headers if item[0] != "content-type")
    if all(name != "content-type" for name, _ in headers):
        headers += (("content-type", "text/plain"),)
    return headers
