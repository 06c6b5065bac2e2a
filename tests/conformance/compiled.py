"""What the host library and the kernel share: the plan of a case's policy and what goes in and comes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from l7fp import abi
from l7fp.codegen.plan import Plan, build
from l7fp.codegen.sources import workload_bits
from l7fp.ir import passes
from l7fp.ir.matching import compile_networks
from l7fp.ir.model import Policy, Workload
from l7fp.ir.passes.classify import classify
from l7fp.ir.request import Source
from tests.conformance import wire
from tests.conformance.corpus import UPSTREAM_HEADERS, Case, Diverted, Outcome
from tests.conformance.interpreter import choices

UPSTREAM = "".join(
    ["HTTP/1.1 200 OK\r\n", *(f"{n}: {v}\r\n" for n, v in UPSTREAM_HEADERS), "content-length: 0\r\n\r\n"]
).encode()
_DEST = abi.BY_NAME["dest"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the hook would give the decision code."""

    source_bits: int
    source_ip_bits: int
    random: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A policy on its way into the kernel."""

    policy: Policy
    plan: Plan

    def inputs(self, case: Case) -> Inputs | Diverted:
        """Of the case's request."""
        source = case.request.source
        if source.conflict:
            return Diverted("the hook leaves ambiguous identities to the slow path")
        ip_bits = sum(compile_networks([net])(source.ip) << n for n, net in enumerate(self.plan.source_ip_atoms))
        drawn, of = choices(case).destination or (0, 1)
        return Inputs(_bits(self.plan, source), ip_bits, -(-(drawn << 32) // of))

    def edits(self, dest: int) -> tuple[int, int]:
        """Numbers of the request and response edit of a `dests` record."""
        row = _DEST.unpack(self.plan.tables["dests"][dest * _DEST.size : (dest + 1) * _DEST.size])
        to, back = row["request_edit"], row["response_edit"]
        assert isinstance(to, int)
        assert isinstance(back, int)
        return to, back

    def forwarded(self, dest: int, rule: str, request: bytes, response: bytes | None) -> Outcome | Diverted:
        """The outcome of FORWARD; `response` is the upstream's as edited; None: left to the agent."""
        name = self.plan.dests[dest].cluster
        cluster = next((c for c in self.policy.clusters if c.name == name), None)
        if cluster is None or not any(e.weight for e in cluster.endpoints):
            return Diverted("the hook finds no endpoint")
        sent = wire.parse(request)
        return Outcome(
            forward=name,
            status=None,
            rule=rule,
            path=sent.words[1],
            authority=sent.get("host"),
            sent=sent.headers,
            reply=wire.parse(response).headers if response is not None else None,
        )

    def replied(self, rule: str, data: bytes) -> Outcome:
        """The outcome of REPLY; `data` is the response made."""
        made = wire.parse(data)
        body = made.body.decode("utf-8", "surrogateescape")
        rule = "" if rule == "(no route)" else rule
        return Outcome(forward=None, status=int(made.words[1]), body=body, rule=rule, reply=made.headers)


@cache
def planned(policy: Policy) -> Planned:
    """As `l7fp compile` does it."""
    ready = passes.run(policy)
    return Planned(ready, build(ready, classify(ready)))


def _bits(plan: Plan, source: Source) -> int:
    """As the loader puts them beside a workload's cgroup; a client that is no workload has none."""
    if not source.workload:
        return 0
    workload = Workload(
        name=source.workload,
        namespace=source.namespace,
        service_account=source.principal.rpartition("/sa/")[2],
        labels=source.labels,
    )
    return workload_bits(plan.source_atoms, workload)
