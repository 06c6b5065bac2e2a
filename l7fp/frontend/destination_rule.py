"""Istio DestinationRule: AST and schema. Subsets, simple balancers and connectTimeout are enforced."""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from l7fp.frontend import wire
from l7fp.frontend.schema import (
    ANY,
    BOOL,
    STRING,
    At,
    Decoder,
    Groups,
    Opaque,
    duration,
    enum,
    integer,
    key,
    keys,
    mapping,
    number,
    record,
    refused,
    sequence,
    unenforced,
)
from l7fp.frontend.virtual_service import LABELS, PORT, PortSelector
from l7fp.source import Span

COUNT = integer(0, 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieAttribute:
    span: Span
    name: At[str] = key(STRING, required=True)
    value: At[str] | None = key(STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCookie:
    span: Span
    name: At[str] = key(wire.NONEMPTY, required=True)
    path: At[str] | None = key(STRING)
    ttl: At[int] | None = key(duration())
    attributes: tuple[CookieAttribute, ...] = keys(sequence(record(CookieAttribute)))

    def check(self, decoder: Decoder, path: str) -> None:
        names = [item.name.value.lower() for item in self.attributes]
        for index, item in enumerate(self.attributes):
            if names[index] in names[:index]:
                message = f"attribute `{item.name.value}` is given twice"
                decoder.error("L7FP104", item.span, path, message, "keep one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistentHash:
    span: Span
    http_header_name: At[str] | None = key(wire.NONEMPTY)
    http_cookie: HttpCookie | None = key(record(HttpCookie))
    use_source_ip: At[bool] | None = key(BOOL)
    http_query_parameter_name: At[str] | None = key(wire.NONEMPTY)
    minimum_ring_size: At[int] | None = key(COUNT)
    ring_hash: Opaque | None = key(ANY)
    maglev: Opaque | None = key(ANY)
    ONE_OF: ClassVar[Groups] = (
        ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
        ("ringHash", "maglev"),
    )
    NEED: ClassVar[Groups] = (("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    span: Span
    duration: At[int] = key(duration(), required=True)
    minimum_percent: At[float] | None = key(number(0, 100))
    aggression: At[float] | None = key(number(1, 1e9))


SIMPLE = ("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST")
_LOCALITY = unenforced("endpoints have no locality here")
_WARMUP = unenforced("new endpoints get their full share at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer:
    span: Span
    simple: At[str] | None = key(enum(*SIMPLE))
    consistent_hash: ConsistentHash | None = key(
        record(ConsistentHash), note=unenforced("requests of one client spread over the endpoints by round robin")
    )
    locality_lb_setting: Opaque | None = key(ANY, note=_LOCALITY)
    zone_aware_lb_setting: Opaque | None = key(ANY, note=_LOCALITY)
    warmup_duration_secs: At[int] | None = key(duration(), note=_WARMUP)
    warmup: Warmup | None = key(record(Warmup), note=_WARMUP)
    ONE_OF: ClassVar[Groups] = (
        ("simple", "consistentHash"),
        ("localityLbSetting", "zoneAwareLbSetting"),
        ("warmup", "warmupDurationSecs"),
    )

    def check(self, decoder: Decoder, path: str) -> None:
        if self.simple is not None and self.simple.value == "PASSTHROUGH":
            reason = "PASSTHROUGH would leave requests to the address that the client chose"
            decoder.error("L7FP402", self.simple.span, path, reason, "use ROUND_ROBIN, RANDOM or LEAST_REQUEST")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpKeepalive:
    span: Span
    probes: At[int] | None = key(COUNT)
    time: At[int] | None = key(duration())
    interval: At[int] | None = key(duration())


_POOL = "the agent sizes its own pools; this limit isn't applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSettings:
    span: Span
    connect_timeout: At[int] | None = key(duration(low_ms=1))
    max_connections: At[int] | None = key(COUNT, note=unenforced(_POOL))
    tcp_keepalive: TcpKeepalive | None = key(record(TcpKeepalive), note=unenforced("the kernel's defaults hold"))
    max_connection_duration: At[int] | None = key(duration(), note=unenforced("connections live on"))
    idle_timeout: At[int] | None = key(duration(), note=unenforced(_POOL))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    span: Span
    interval: At[int] = key(duration(low_ms=1), required=True)
    timeout: At[int] = key(duration(low_ms=1), required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    span: Span
    http1_max_pending_requests: At[int] | None = key(COUNT, note=unenforced(_POOL))
    http2_max_requests: At[int] | None = key(COUNT, note=unenforced(_POOL))
    max_requests_per_connection: At[int] | None = key(COUNT, note=unenforced(_POOL))
    max_retries: At[int] | None = key(COUNT, note=unenforced(_POOL))
    idle_timeout: At[int] | None = key(duration(), note=unenforced(_POOL))
    h2_upgrade_policy: At[str] | None = key(
        enum("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"), note=unenforced("requests keep their HTTP version")
    )
    use_client_protocol: At[bool] | None = key(BOOL, note=unenforced("requests keep their HTTP version anyway"))
    max_concurrent_streams: At[int] | None = key(COUNT, note=unenforced(_POOL))
    http2_keep_alive: KeepAlive | None = key(record(KeepAlive), note=unenforced("HTTP/2 isn't spoken upstream"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPool:
    span: Span
    tcp: TcpSettings | None = key(record(TcpSettings))
    http: HttpSettings | None = key(record(HttpSettings))
    NEED: ClassVar[Groups] = (("tcp", "http"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    span: Span
    consecutive_errors: At[int] | None = key(COUNT)
    split_external_local_origin_errors: At[bool] | None = key(BOOL)
    consecutive_local_origin_failures: At[int] | None = key(COUNT)
    consecutive_gateway_errors: At[int] | None = key(COUNT)
    consecutive5xx_errors: At[int] | None = key(COUNT)
    interval: At[int] | None = key(duration(low_ms=1))
    base_ejection_time: At[int] | None = key(duration(low_ms=1))
    max_ejection_percent: At[int] | None = key(integer(0, 100))
    min_health_percent: At[int] | None = key(integer(0, 100))

    def check(self, decoder: Decoder, path: str) -> None:
        split = self.split_external_local_origin_errors
        if self.consecutive_local_origin_failures is not None and not (split is not None and split.value):
            hint = "set splitExternalLocalOriginErrors: true, or remove it"
            span = self.consecutive_local_origin_failures.span
            decoder.error("L7FP205", span, path, "consecutiveLocalOriginFailures has no effect alone", hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    span: Span
    mode: At[str] | None = key(enum("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"))
    client_certificate: At[str] | None = key(STRING)
    private_key: At[str] | None = key(STRING)
    ca_certificates: At[str] | None = key(STRING)
    credential_name: At[str] | None = key(STRING)
    subject_alt_names: tuple[At[str], ...] = keys(sequence(STRING))
    sni: At[str] | None = key(STRING)
    insecure_skip_verify: At[bool] | None = key(BOOL)
    ca_crl: At[str] | None = key(STRING)

    def check(self, decoder: Decoder, path: str) -> None:
        mode = "DISABLE" if self.mode is None else self.mode.value
        files = self.client_certificate or self.private_key or self.ca_certificates
        if mode == "MUTUAL" and not self.credential_name and not (self.client_certificate and self.private_key):
            hint = "give clientCertificate and privateKey, or credentialName"
            decoder.error("L7FP203", self.span, path, "MUTUAL needs a certificate and its key", hint)
        if self.credential_name and files:
            message = "credentialName and certificate files exclude one another"
            decoder.error("L7FP205", self.credential_name.span, path, message, "keep one of them")
        skip = self.insecure_skip_verify
        if skip is not None and skip.value:
            simple = mode == "SIMPLE" and (self.ca_certificates or self.credential_name)
            if self.subject_alt_names or self.ca_certificates or simple:
                message = "insecureSkipVerify contradicts what is to be verified"
                decoder.error("L7FP205", skip.span, path, message, "remove insecureSkipVerify")
        if mode != "DISABLE":
            hint = "endpoints get plain HTTP; mode: DISABLE says so"
            decoder.error("L7FP402", self.span, path, f"TLS to the endpoints ({mode}) isn't spoken", hint)


_SETTINGS = ("loadBalancer", "connectionPool", "outlierDetection", "tls")
_OUTLIERS = unenforced("failing endpoints aren't ejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTrafficPolicy:
    span: Span
    port: PortSelector | None = key(record(PortSelector))
    load_balancer: LoadBalancer | None = key(record(LoadBalancer))
    connection_pool: ConnectionPool | None = key(record(ConnectionPool))
    outlier_detection: OutlierDetection | None = key(record(OutlierDetection), note=_OUTLIERS)
    tls: ClientTls | None = key(record(ClientTls))
    NEED: ClassVar[Groups] = (("port",), _SETTINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    span: Span
    protocol: At[str] | None = key(enum("CONNECT", "POST"))
    target_host: At[str] = key(wire.EXACT_HOST, required=True)
    target_port: At[int] = key(PORT, required=True)


_TUNNEL = refused("requests can't be tunnelled", "remove tunnel")
_BUDGET = unenforced("the number of retries at one time isn't limited")
_PROXY = refused("the PROXY protocol isn't sent to endpoints", "remove proxyProtocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    span: Span
    load_balancer: LoadBalancer | None = key(record(LoadBalancer))
    connection_pool: ConnectionPool | None = key(record(ConnectionPool))
    outlier_detection: OutlierDetection | None = key(record(OutlierDetection), note=_OUTLIERS)
    tls: ClientTls | None = key(record(ClientTls))
    port_level_settings: tuple[PortTrafficPolicy, ...] = keys(sequence(record(PortTrafficPolicy)))
    tunnel: Tunnel | None = key(record(Tunnel), note=_TUNNEL)
    proxy_protocol: Opaque | None = key(ANY, note=_PROXY)
    retry_budget: Opaque | None = key(ANY, note=_BUDGET)
    NEED: ClassVar[Groups] = ((*_SETTINGS, "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"),)


TRAFFIC_POLICY = record(TrafficPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    span: Span
    name: At[str] = key(wire.LABEL, required=True)
    labels: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    traffic_policy: TrafficPolicy | None = key(TRAFFIC_POLICY)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSelector:
    """`selector` and `workloadSelector` of Istio kinds that use matchLabels."""

    span: Span
    match_labels: tuple[tuple[At[str], At[str]], ...] = keys(mapping(STRING))

    def check(self, decoder: Decoder, path: str) -> None:
        for name, value in self.match_labels:
            if not name.value or "*" in name.value or "*" in value.value:
                message = f"`{name.value}: {value.value}`: labels are compared as they are, without wildcards"
                decoder.error("L7FP204", name.span, path, message, "write the label in full")


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRule:
    """`spec`."""

    span: Span
    host: At[str] = key(wire.HOST, required=True)
    traffic_policy: TrafficPolicy | None = key(TRAFFIC_POLICY)
    subsets: tuple[Subset, ...] = keys(sequence(record(Subset)))
    export_to: tuple[At[str], ...] = keys(sequence(STRING))
    workload_selector: WorkloadSelector | None = key(record(WorkloadSelector))

    def check(self, decoder: Decoder, path: str) -> None:
        seen: dict[str, Any] = {}
        for subset in self.subsets:
            if subset.name.value in seen:
                message = f"subset `{subset.name.value}` is given twice"
                decoder.error("L7FP104", subset.name.span, path, message, "give each subset its own name")
            seen[subset.name.value] = subset


SPEC = record(DestinationRule)
