"""What the interpreter says about one request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from l7fp.ir.model import Destination, Endpoint, HeaderEdits, RetryPolicy, Rule
from l7fp.ir.request import Request
from l7fp.source import Span


class DecisionKind(Enum):
    """What happens to the request."""

    FORWARD = "forward"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the trail: where it is written, what was looked at, and whether it held."""

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
