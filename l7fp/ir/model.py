"""The intermediate representation: what a policy means, whatever dialect it was written in.

Everything here is a frozen value: it can be printed (`ir.printer`), parsed back
(`ir.parser`), compared and hashed. Names are those of Envoy and Istio. Text is
`str`; bytes of a request that are not UTF-8 are kept by `surrogateescape`, so that
comparing text compares bytes.

A request is handled in this order (`ir.interp` is the reference):

1. `Policy.tables[port]` by the destination port; in it the virtual host by `Host`
   (exact before the longest `*.suffix` before `*`; case does not count); when no
   domain fits, the virtual host that owns the original destination address.
2. the first `Rule` of the virtual host one of whose `matches` holds.
3. its action: a reply made on the spot, or a route: pick a destination by weight,
   apply the edits, pick an endpoint of the cluster.
4. the endpoint's workload's authorization policies, on the request as edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from l7fp.source import NOWHERE, Span


class StringKind(Enum):
    """How a `StringMatch` compares. PATH_TEMPLATE is Istio's `{*}` / `{**}`; REGEX is RE2, full match."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    PRESENT = "present"
    PATH_TEMPLATE = "template"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class StringMatch:
    """`value` is empty for PRESENT, which holds for any value, the empty one included."""

    kind: StringKind
    value: str = ""
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class CidrMatch:
    """An address block in canonical text form, IPv4 or IPv6 (`10.0.0.0/8`, `fd00::/8`, `1.2.3.4/32`)."""

    network: str


@dataclass(frozen=True, slots=True)
class PortMatch:
    """A TCP port."""

    port: int


Matcher = StringMatch | CidrMatch | PortMatch


class FieldKind(Enum):
    """What of a request a condition looks at. See `ir.fields` for types and who can read them."""

    PATH = "path"  # without the query
    METHOD = "method"
    AUTHORITY = "authority"
    SCHEME = "scheme"
    HEADER = "header"  # named
    QUERY = "query"  # named
    SOURCE_IP = "source.ip"
    REMOTE_IP = "remote.ip"
    SOURCE_PRINCIPAL = "source.principal"  # cluster.local/ns/NS/sa/SA
    SOURCE_NAMESPACE = "source.namespace"
    SOURCE_LABEL = "source.label"  # named
    REQUEST_PRINCIPAL = "request.principal"  # JWT issuer/subject; never known in this version
    DESTINATION_IP = "destination.ip"
    DESTINATION_PORT = "destination.port"
    SNI = "connection.sni"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request. `name` is the header (lower case), query parameter or label; else empty."""

    kind: FieldKind
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Holds when the field has a value and any of `any_of` matches it; `negate` inverts the outcome.

    So a negated condition holds where the field is absent (Istio's not-lists and withoutHeaders).
    """

    field: Field
    any_of: tuple[Matcher, ...]
    negate: bool = False
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A conjunction. No conditions: always."""

    conditions: tuple[Condition, ...] = ()
    span: Span = NOWHERE


# --- what to do ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdits:
    """Header changes, applied in this order: remove, set (overwrite), add (append). Names lower case."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.set or self.add)


NO_EDITS = HeaderEdits()


class RewriteKind(Enum):
    """PREFIX replaces what the rule's path matcher matched (all of it for EXACT); FULL the whole path."""

    PREFIX = "prefix"
    FULL = "full"
    REGEX = "regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRewrite:
    """New path text; the query is kept. `regex` is the RE2 pattern of REGEX, `value` its substitution."""

    kind: RewriteKind
    value: str
    regex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One weighted cluster of a route."""

    cluster: str
    weight: int = 1
    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts` retries after the first try. `on` are Envoy's retry_on words, sorted; status codes apart."""

    attempts: int
    on: tuple[str, ...]
    status_codes: tuple[int, ...] = ()
    per_try_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Forward to one of `destinations`, picked by weight. `timeout_ms` None: no limit; it includes retries."""

    destinations: tuple[Destination, ...]
    path_rewrite: PathRewrite | None = None
    authority_rewrite: str | None = None
    timeout_ms: int | None = None
    retry: RetryPolicy | None = None
    request_headers: HeaderEdits = NO_EDITS
    response_headers: HeaderEdits = NO_EDITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with Location. A None part is taken from the request; `path` replaces the path, and the query
    where it brings one; `prefix_rewrite` only what the matcher matched. `port` None: none is written."""

    status: int = 301
    scheme: str | None = None
    authority: str | None = None
    port: int | None = None
    path: str | None = None
    prefix_rewrite: str | None = None
    response_headers: HeaderEdits = NO_EDITS


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponse:
    """Answer with this status and body."""

    status: int
    body: str = ""
    response_headers: HeaderEdits = NO_EDITS


Action = Route | Redirect | DirectResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Routing rule: holds when any of `matches` holds (none: always). `name` is unique in the policy,
    such as `default/reviews/http[0]`."""

    name: str
    action: Action
    matches: tuple[Match, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """`domains` are lower-case hosts as in Envoy: `a.b`, `a.b:80`, `*.b`, `*`. `addresses` are the
    service's own, which choose this virtual host for requests whose Host nothing claims."""

    name: str
    domains: tuple[str, ...]
    rules: tuple[Rule, ...]
    addresses: tuple[str, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The virtual hosts of one service port. No two of them have a domain in common."""

    port: int
    virtual_hosts: tuple[VirtualHost, ...]


# --- where to ----------------------------------------------------------------------------------


class LoadBalancer(Enum):
    """Balancing policy of a cluster."""

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_REQUEST = "least_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address that serves a cluster. `workload` names a `Workload`, empty where none is known."""

    address: str
    port: int
    workload: str = ""
    weight: int = 1
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`name` is Istio's `outbound|PORT|SUBSET|HOST`."""

    name: str
    host: str
    port: int
    subset: str = ""
    load_balancer: LoadBalancer = LoadBalancer.ROUND_ROBIN
    endpoints: tuple[Endpoint, ...] = ()
    connect_timeout_ms: int = 10_000
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What clients address. Connections to (`addresses` x `ports`) and to the endpoints are captured."""

    host: str
    namespace: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    span: Span = NOWHERE


# --- who ---------------------------------------------------------------------------------------


class AuthzAction(Enum):
    """Istio's AuthorizationPolicy actions. AUDIT never changes a verdict. CUSTOM is not accepted."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthzRule:
    """Holds when (no `sources` or any holds) and (no `operations` or any holds) and `when` holds."""

    sources: tuple[Match, ...] = ()
    operations: tuple[Match, ...] = ()
    when: Match = Match()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthzPolicy:
    """Holds when any rule holds; without rules it never does. `name` is `namespace/name`."""

    name: str
    action: AuthzAction
    rules: tuple[AuthzRule, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A client or server on this node or elsewhere.

    `policies` names the `AuthzPolicy`s that guard it as a server. `cgroup` is the path that identifies
    its processes, relative to the cgroup v2 root, or `pod:UID`; empty where nothing does.
    """

    name: str
    namespace: str
    service_account: str = "default"
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()
    cgroup: str = ""
    policies: tuple[str, ...] = ()
    span: Span = NOWHERE

    @property
    def principal(self) -> str:
        """SPIFFE path as Istio writes it in policies."""
        return f"cluster.local/ns/{self.namespace}/sa/{self.service_account}"


class PathNormalization(Enum):
    """Istio's meshConfig.pathNormalization modes."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything an executor needs. Tables are sorted by port, the rest by name."""

    tables: tuple[RouteTable, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    services: tuple[Service, ...] = ()
    workloads: tuple[Workload, ...] = ()
    authz: tuple[AuthzPolicy, ...] = ()
    path_normalization: PathNormalization = PathNormalization.BASE
