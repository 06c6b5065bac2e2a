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
from dataclasses import replace

from l7fp.ir import edits as header_edits
from l7fp.ir.authorize import CompiledPolicy, Guard
from l7fp.ir.compiled import CompiledCluster, CompiledDestination, CompiledMatch, CompiledTable, Pick
from l7fp.ir.decision import Decision, DecisionKind, Step
from l7fp.ir.model import Cluster, DirectResponse, Endpoint, HeaderEdits, Policy, Redirect, Route
from l7fp.ir.paths import normalize
from l7fp.ir.request import Request, RequestView, Source
from l7fp.ir.rewrite import location, own_location

__all__ = [
    "DENIED_BODY",
    "Balance",
    "Decision",
    "DecisionKind",
    "Interpreter",
    "Pick",
    "Request",
    "Source",
    "Step",
    "random_pick",
    "reply_headers",
]

DENIED_BODY = "RBAC: access denied"
_NO_UPSTREAM_BODY = "no healthy upstream"

Balance = Callable[[Cluster], Endpoint | None]
"""Who balances itself: the chosen cluster to one of its endpoints, None if none can be used."""


def random_pick(n: int) -> int:
    """An integer in [0, n)."""
    return int(random.random() * n)


class Interpreter:
    """A policy made ready for decisions. Immutable after construction; safe to share.

    Raises `UnavailableError` when the policy needs google-re2 and it is absent, ValueError for patterns
    that are not valid (`ir.verify` finds both first).
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tables = {table.port: CompiledTable(table) for table in policy.tables}
        self._clusters = {cluster.name: CompiledCluster(cluster) for cluster in policy.clusters}
        compiled = {p.name: (p, CompiledPolicy(p)) for p in policy.authz}
        guards = {w.name: Guard(w, compiled) for w in policy.workloads}
        self._guards = {name: guard for name, guard in guards.items() if guard}
        self._mode = policy.path_normalization

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
        target = normalize(request.target, self._mode)
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
        for entry in host.candidates(view.path):
            for predicate in entry.predicates:
                if not predicate(view):
                    break
            else:
                action = entry.rule.action
                if isinstance(action, Route):
                    return self._route(request, host.host.name, entry, action, pick, endpoint, balance)
                return _reply(request, host.host.name, entry, action)
        name = host.host.name
        return Decision(kind=DecisionKind.REPLY, status=404, code="route_not_found", request=request, virtual_host=name)

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
        place = entry.choice.index(pick)
        chosen = entry.destinations[place] if place >= 0 else None
        destination = chosen.destination if chosen is not None else None
        cluster = self._clusters.get(destination.cluster) if destination is not None else None
        response_edits = chosen.response_edits if chosen is not None else ()
        edited = self._edit(request, route, entry, chosen)
        if edited is None:
            edited, endpoint = request, None
            status, code, body, policy = 400, "bad_path", "", ""
        elif cluster is None:
            endpoint = None
            status, code, body, policy = 503, "cluster_not_found", "", ""
        else:
            if endpoint is None:
                endpoint = balance(cluster.cluster) if balance is not None else cluster.endpoint(pick)
            status, code, body, policy = self._admit(edited, endpoint)
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

    def _edit(
        self, request: Request, route: Route, entry: CompiledMatch, chosen: CompiledDestination | None
    ) -> Request | None:
        """The request as it goes upstream: headers of the destination, then of the route, authority, path.

        None when the rewritten path is none that could be sent."""
        headers = request.headers
        if chosen is not None and chosen.request_edits:
            headers = chosen.edit(headers)
        target = request.target
        if entry.path_change is not None:
            changed = normalize(entry.path_change(request.path) + request.query, self._mode)
            if changed is None:
                return None
            target = changed
        authority = route.authority_rewrite or request.authority
        if headers is request.headers and target == request.target and authority == request.authority:
            return request
        return Request(
            port=request.port,
            method=request.method,
            target=target,
            authority=authority,
            headers=headers,
            source=request.source,
            scheme=request.scheme,
            destination_ip=request.destination_ip,
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


def _reply(request: Request, host: str, entry: CompiledMatch, action: Redirect | DirectResponse) -> Decision:
    headers: tuple[tuple[str, str], ...] = ()
    match action:
        case Redirect():
            code, body = "redirect", ""
            headers = (("location", location(action, entry.match, request)),)
        case DirectResponse():
            code, body = "direct_response", action.body
            own = own_location(action, request)
            headers = (("location", own),) if own is not None else ()
    return Decision(
        kind=DecisionKind.REPLY,
        status=action.status,
        code=code,
        request=request,
        rule=entry.rule,
        virtual_host=host,
        match_index=entry.index,
        reply_headers=reply_headers(headers, body, action.response_headers),
        reply_body=body,
    )


def reply_headers(headers: tuple[tuple[str, str], ...], body: str, *edits: HeaderEdits) -> tuple[tuple[str, str], ...]:
    """Headers of a reply made here, after its edits, with the content-type that a body needs."""
    for edit in edits:
        headers = header_edits.apply(edit, headers)
    if not body:
        return tuple(item for item in headers if item[0] != "content-type")
    if all(name != "content-type" for name, _ in headers):
        headers += (("content-type", "text/plain"),)
    return headers
