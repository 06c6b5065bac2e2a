"""From a request head to what is to be done with it: `ir.interp` asked once, its answers remembered.

A decision is remembered per flow for (method, target, authority, the headers that the policy
looks at); weighted destinations are picked anew for each request. On top of that whole heads are
remembered by their bytes, because clients repeat themselves, together with what goes upstream.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from l7fp.ir.interp import Decision, DecisionKind, Interpreter, Request
from l7fp.ir.model import AuthzPolicy, Destination, Endpoint, FieldKind, HeaderEdits, Match, Policy, Route, Rule
from slowpath.balance import Balancer, Host
from slowpath.headers import check, edited, request_head, response_head, sanitise
from slowpath.http1 import Framing, RequestHead, ResponseHead, parse_request
from slowpath.interfaces import FlowInfo, Options
from slowpath.memo import Memo
from slowpath.pool import Pool
from slowpath.replies import Reply
from slowpath.retry import Retries

_MEMO_HEAD = 2048
_MEMO_RESPONSES = 64
UPGRADES = frozenset({"websocket"})
"""Protocols that a client may switch to; h2c above all is not among them, for the policy could not follow."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What one endpoint's workload says, and how messages look on this way. `reply` if it refuses."""

    decision: Decision
    reply: Reply | None
    request_edits: tuple[HeaderEdits, ...]
    _responses: dict[ResponseHead, bytes] = field(default_factory=dict)

    def response(self, head: ResponseHead, framing: Framing, *, http10: bool, close: bool) -> bytes:
        """The client's response head."""
        if http10 or close:
            return response_head(head, framing, self.decision.response_edits, http10=http10, close=close)
        known = self._responses.get(head)
        # The same head may end a HEAD or a GET: only the usual framing is remembered.
        if known is not None and framing is head.framing:
            return known
        made = response_head(head, framing, self.decision.response_edits, http10=False, close=False)
        if framing is head.framing:
            if len(self._responses) >= _MEMO_RESPONSES:
                self._responses.clear()
            self._responses[head] = made
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One weighted destination: the hosts of its cluster, and what the interpreter says of each (of None:
    what it says where there is none)."""

    balancer: Balancer | None
    weight_below: int
    _decide: Callable[[Endpoint | None], Verdict]
    _verdicts: dict[Host | None, Verdict] = field(default_factory=dict)

    def verdict(self, host: Host | None) -> Verdict:
        """The outcome at `host`."""
        known = self._verdicts.get(host)
        if known is None:
            known = self._verdicts[host] = self._decide(host.endpoint if host is not None else None)
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Either `reply`, or `choices` with `total` weight."""

    rule: Rule | None
    reply: Reply | None = None
    choices: tuple[Choice, ...] = ()
    total: int = 0
    timeout_ms: int | None = None
    retries: Retries | None = None

    def choose(self, rand: random.Random) -> Choice:
        """A destination, by weight."""
        if len(self.choices) == 1:
            return self.choices[0]
        ticket = int(rand.random() * self.total)
        for choice in self.choices:
            if ticket < choice.weight_below:
                return choice
        return self.choices[-1]


class Prepared:
    """A request with its plan. What goes to the server is made once per verdict."""

    __slots__ = ("_peer", "_upstream", "head", "plan")

    def __init__(self, head: RequestHead, plan: Plan, peer: str) -> None:
        self.head = head
        self.plan = plan
        self._peer = peer
        self._upstream: dict[Verdict, tuple[bytes, bool]] = {}

    def upstream_head(self, verdict: Verdict) -> tuple[bytes, bool]:
        """See `headers.request_head`."""
        known = self._upstream.get(verdict)
        if known is None:
            head, request = self.head, verdict.decision.request
            known = self._upstream[verdict] = request_head(
                head,
                method=request.method,
                target=request.target,
                authority=request.authority,
                headers=edited(head.headers, verdict.request_edits) if verdict.request_edits else head.headers,
                peer=self._peer,
            )
        return known


def _matches(policy: Policy) -> Iterator[Match]:
    for table in policy.tables:
        for host in table.virtual_hosts:
            for rule in host.rules:
                yield from rule.matches
    for authz in policy.authz:
        yield from _authz_matches(authz)


def _authz_matches(authz: AuthzPolicy) -> Iterator[Match]:
    for rule in authz.rules:
        yield from rule.sources
        yield from rule.operations
        yield rule.when


def headers_looked_at(policy: Policy) -> frozenset[str]:
    """Names of the headers on which some decision of `policy` may depend."""
    conditions = (c for match in _matches(policy) for c in match.conditions)
    return frozenset(c.field.name for c in conditions if c.field.kind is FieldKind.HEADER)


class PolicyVersion:
    """One policy at work: interpreter, balancers, and the routers of the flows seen."""

    def __init__(
        self,
        policy: Policy,
        *,
        pool: Callable[[Endpoint], Pool],
        now: Callable[[], float],
        options: Options,
        rand: random.Random,
    ) -> None:
        self.interpreter = Interpreter(policy)
        self.balancers = {c.name: Balancer(c, pool, now, rand) for c in policy.clusters}
        self.header_names = headers_looked_at(policy)
        self.options = options
        # One store for all flows, or memory would grow with their number.
        self.heads: Memo[tuple[int, bytes], Prepared] = Memo(options.memo_entries // 4)
        self.plans: Memo[tuple[object, ...], Plan] = Memo(options.memo_entries)
        self.once: set[int] = set()
        self._routers: Memo[tuple[object, ...], FlowRouter] = Memo(1024)
        self._count = 0

    def router(self, flow: FlowInfo) -> FlowRouter:
        """The router for connections like `flow`."""
        key = (flow.port, flow.destination_ip, flow.source, flow.peer)
        router = self._routers.get(key)
        if router is None:
            self._count += 1
            router = FlowRouter(self, flow, self._count)
            self._routers.put(key, router)
        return router


class FlowRouter:
    """Routes the requests of connections that go to one port and come from one source."""

    __slots__ = ("_flow", "_number", "_version")

    def __init__(self, version: PolicyVersion, flow: FlowInfo, number: int) -> None:
        self._version = version
        self._flow = flow
        self._number = number

    def known(self, raw: bytes) -> Prepared | None:
        """What `prepare` once made of exactly these bytes, if it is remembered."""
        return self._version.heads.get((self._number, raw))

    def prepare(self, raw: bytes) -> Prepared:
        """The request whose head is `raw`, with its plan. Raises `Rejected`."""
        options = self._version.options
        head = parse_request(raw, max_target=options.max_target, max_headers=options.max_headers)
        trust = options.trust_forwarded
        seen = sanitise(head.seen, trust=trust)
        if seen is not head.seen or (head.upgrade and head.upgrade not in UPGRADES):
            head = replace(
                head,
                headers=sanitise(head.headers, trust=trust),
                seen=seen,
                upgrade=head.upgrade if head.upgrade in UPGRADES else "",
            )
        version = self._version
        names = version.header_names
        relevant = tuple([h for h in head.seen if h[0] in names]) if names else ()
        key = (self._number, head.method, head.target, head.authority, relevant)
        plan = version.plans.get(key)
        if plan is None:
            plan = self._plan(head)
            version.plans.put(key, plan)
        prepared = Prepared(head, plan, self._flow.peer)
        if len(raw) <= _MEMO_HEAD:
            # Kept from the second time on: most heads with an id in them come only once.
            memo_key = (self._number, raw)
            digest = hash(memo_key)
            if digest in version.once:
                version.heads.put(memo_key, prepared)
            else:
                if len(version.once) >= options.memo_entries:
                    version.once.clear()
                version.once.add(digest)
        return prepared

    def _request(self, head: RequestHead) -> Request:
        flow = self._flow
        return Request(
            port=flow.port,
            method=head.method,
            target=head.target,
            authority=head.authority,
            headers=head.seen,
            source=flow.source,
            destination_ip=flow.destination_ip,
        )

    def _plan(self, head: RequestHead) -> Plan:
        version = self._version
        request = self._request(head)
        first = version.interpreter.decide(request, pick=lambda n: 0)
        rule = first.rule
        if rule is None or not isinstance(rule.action, Route):
            return Plan(rule, _reply(first))
        route = rule.action
        choices: list[Choice] = []
        below = 0
        for destination in route.destinations:
            if destination.weight > 0:
                decide = self._decider(request, route, destination, below)
                below += destination.weight
                choices.append(Choice(version.balancers.get(destination.cluster), below, decide))
        if not choices:
            return Plan(rule, _reply(first))
        return Plan(rule, None, tuple(choices), below, route.timeout_ms, Retries.of(route.retry))

    def _decider(
        self, request: Request, route: Route, destination: Destination, ticket: int
    ) -> Callable[[Endpoint | None], Verdict]:
        """Asks the interpreter about the destination that `ticket` draws."""
        interpreter = self._version.interpreter
        edits = tuple(e for e in (destination.request_headers, route.request_headers) if e)

        def decide(endpoint: Endpoint | None) -> Verdict:
            decision = interpreter.decide(request, pick=lambda n: ticket, endpoint=endpoint, balance=lambda c: None)
            check((*edits, *decision.response_edits))
            refusal = None if decision.kind is DecisionKind.FORWARD else _reply(decision)
            return Verdict(decision, refusal, edits)

        return decide


def _reply(decision: Decision) -> Reply:
    return Reply(
        decision.status, decision.code, decision.reply_headers, decision.reply_body.encode("utf-8", "surrogateescape")
    )
