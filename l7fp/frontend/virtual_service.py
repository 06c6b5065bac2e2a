"""Istio VirtualService: AST and schema (networking.istio.io/v1, v1beta1, v1alpha3).

Conditions between fields are those of Istio's own validation.
"""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from l7fp.frontend import wire
from l7fp.frontend.schema import (
    BOOL,
    STRING,
    At,
    Decoder,
    Groups,
    Type,
    checked,
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
from l7fp.source import Span

PORT = integer(1, 65535)
PERCENT = number(0, 100)
CLAIMS = "@request.auth.claims"
RETRY_WORDS = frozenset(
    (
        *("5xx", "cancelled", "connect-failure", "deadline-exceeded", "envoy-ratelimited", "gateway-error"),
        *("http3-post-connect-failure", "internal", "refused-stream", "reset", "reset-before-request"),
        *("resource-exhausted", "retriable-4xx", "retriable-headers", "retriable-status-codes", "unavailable"),
    )
)
_GATEWAY = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-.~A-Za-z0-9]*[A-Za-z0-9])?")
_METHODS = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "*"]


def _gateway(value: str) -> wire.Problem:
    if _GATEWAY.fullmatch(value):
        return None
    return "L7FP204", f"`{value}` is not the name of a gateway", "write mesh, NAME or NAMESPACE/NAME"


def _retry_on(value: str) -> wire.Problem:
    for word in (part.strip() for part in value.split(",")):
        is_status = word.isdigit() and 200 <= int(word) <= 599
        if word not in RETRY_WORDS and not is_status:
            hint = f"possible: a status code, or {', '.join(sorted(RETRY_WORDS))}"
            return "L7FP204", f"`{word}` is no condition to retry on", hint
    return None


def _header_name(value: str) -> wire.Problem:
    return None if value.startswith(CLAIMS) else wire.token(value)


GATEWAYS = sequence(checked(STRING, _gateway))
LABELS = mapping(STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    """Text to compare; no part at all means presence, where the place allows it."""

    span: Span
    exact: At[str] | None = key(STRING)
    prefix: At[str] | None = key(STRING)
    regex: At[str] | None = key(wire.REGEX)
    ONE_OF: ClassVar[Groups] = (("exact", "prefix", "regex"),)
    STRICT: ClassVar[bool] = True

    @property
    def present(self) -> bool:
        return self.exact is None and self.prefix is None and self.regex is None


def _no_empty_prefix(base: Type[StringMatch]) -> Type[StringMatch]:
    """Istio allows an empty prefix on `uri` alone."""

    def read(decoder: Decoder, node: Any, path: str) -> StringMatch | None:
        match = base.read(decoder, node, path)
        if match is not None and match.prefix is not None and not match.prefix.value:
            decoder.error("L7FP204", match.span, path, "the prefix is empty", "write {} for presence, or a prefix")
        return match

    return Type(base.expects, read)


URI_MATCH = record(StringMatch, "a mapping with exact, prefix or regex")
MATCH = _no_empty_prefix(URI_MATCH)
HEADER_MATCHES = mapping(MATCH, name=_header_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """One block of `match`: all of its conditions."""

    span: Span
    name: At[str] | None = key(STRING)
    uri: StringMatch | None = key(URI_MATCH)
    ignore_uri_case: At[bool] | None = key(BOOL)
    scheme: StringMatch | None = key(MATCH)
    method: StringMatch | None = key(MATCH)
    authority: StringMatch | None = key(MATCH)
    headers: tuple[tuple[At[str], StringMatch], ...] = keys(HEADER_MATCHES)
    without_headers: tuple[tuple[At[str], StringMatch], ...] = keys(HEADER_MATCHES)
    query_params: tuple[tuple[At[str], StringMatch], ...] = keys(mapping(MATCH))
    port: At[int] | None = key(PORT)
    source_labels: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    source_namespace: At[str] | None = key(STRING)
    gateways: tuple[At[str], ...] = keys(GATEWAYS)
    stat_prefix: At[str] | None = key(STRING, note=unenforced("no separate statistics are kept"))

    def check(self, decoder: Decoder, path: str) -> None:
        if self.uri is not None and self.uri.present:
            hint = "give exact, prefix or regex, or remove uri"
            decoder.error("L7FP203", self.uri.span, f"{path}.uri", "says nothing to compare with", hint)
        for where in (*self.headers, *self.without_headers):
            if where[0].value.startswith(CLAIMS):
                reason = "conditions on JWT claims need RequestAuthentication, which isn't enforced"
                decoder.error("L7FP402", where[0].span, path, reason, "remove the condition")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSelector:
    span: Span
    number: At[int] = key(PORT, required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    span: Span
    host: At[str] = key(wire.EXACT_HOST, required=True)
    subset: At[str] | None = key(wire.LABEL)
    port: PortSelector | None = key(record(PortSelector))


DESTINATION = record(Destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOperations:
    span: Span
    set: tuple[tuple[At[str], At[str]], ...] = keys(mapping(wire.HEADER_VALUE, name=wire.edited_header))
    add: tuple[tuple[At[str], At[str]], ...] = keys(mapping(wire.HEADER_VALUE, name=wire.edited_header))
    remove: tuple[At[str], ...] = keys(sequence(wire.EDITED_HEADER))

    def check(self, decoder: Decoder, path: str) -> None:
        for pairs in (self.set, self.add):
            seen: dict[str, Span] = {}
            for name, _ in pairs:
                if name.value.lower() in seen:
                    message = f"`{name.value}` is given twice, differing in case only"
                    decoder.error("L7FP104", name.span, path, message, "keep one of them")
                seen[name.value.lower()] = name.span
        for name in self.remove:
            if name.value.lower() in wire.HOST_NAMES:
                decoder.error("L7FP404", name.span, path, "the host can't be removed", "set rewrite.authority instead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    span: Span
    request: HeaderOperations | None = key(record(HeaderOperations))
    response: HeaderOperations | None = key(record(HeaderOperations))

    def check(self, decoder: Decoder, path: str) -> None:
        operations = self.response
        for name, _ in () if operations is None else (*operations.set, *operations.add):
            if name.value.startswith(":"):
                decoder.error("L7FP404", name.span, path, f"a response has no `{name.value}`", "remove this edit")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedDestination:
    span: Span
    destination: Destination = key(DESTINATION, required=True)
    weight: At[int] | None = key(integer(0, 2**31 - 1))
    headers: Headers | None = key(record(Headers))
    STRICT: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    span: Span
    match: At[str] = key(wire.REGEX, required=True)
    rewrite: At[str] = key(STRING, required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    span: Span
    uri: At[str] | None = key(wire.PATH)
    authority: At[str] | None = key(wire.AUTHORITY)
    uri_regex_rewrite: RegexRewrite | None = key(record(RegexRewrite))
    ONE_OF: ClassVar[Groups] = (("uri", "uriRegexRewrite"),)
    NEED: ClassVar[Groups] = (("uri", "uriRegexRewrite", "authority"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    span: Span
    uri: At[str] | None = key(wire.PATH)
    prefix_rewrite: At[str] | None = key(wire.PATH)
    authority: At[str] | None = key(wire.AUTHORITY)
    port: At[int] | None = key(PORT)
    derive_port: At[str] | None = key(enum("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"))
    scheme: At[str] | None = key(enum("http", "https"))
    redirect_code: At[int] | None = key(integer(300, 399))
    ONE_OF: ClassVar[Groups] = (("uri", "prefixRewrite"), ("port", "derivePort"))
    NEED: ClassVar[Groups] = (("uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"),)

    def check(self, decoder: Decoder, path: str) -> None:
        code = self.redirect_code
        if code is not None and code.value not in (301, 302, 303, 307, 308):
            hint = "possible: 301, 302, 303, 307, 308"
            decoder.error("L7FP404", code.span, path, f"redirects with {code.value} can't be sent", hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    span: Span
    string: At[str] | None = key(STRING)
    bytes: At[str] | None = key(STRING)
    ONE_OF: ClassVar[Groups] = (("string", "bytes"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponse:
    span: Span
    status: At[int] = key(integer(200, 599), required=True)
    body: Body | None = key(record(Body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    span: Span
    attempts: At[int] | None = key(integer(0, 1000))
    per_try_timeout: At[int] | None = key(duration(low_ms=1))
    retry_on: At[str] | None = key(checked(STRING, _retry_on))
    retry_remote_localities: At[bool] | None = key(BOOL, note=unenforced("endpoints have no locality here"))
    retry_ignore_previous_hosts: At[bool] | None = key(
        BOOL, note=unenforced("the next endpoint of the balancer is tried, as always")
    )
    backoff: At[int] | None = key(duration(low_ms=1), note=unenforced("retries back off as Envoy does by default"))

    def check(self, decoder: Decoder, path: str) -> None:
        off = self.attempts is None or self.attempts.value == 0
        if off and (self.per_try_timeout or self.retry_on or self.retry_remote_localities or self.backoff):
            hint = "remove the other settings, or set attempts to 1 or more"
            decoder.error("L7FP205", self.span, path, "attempts is 0, which turns retries off", hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    span: Span
    value: At[float] | None = key(PERCENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    span: Span
    fixed_delay: At[int] | None = key(duration(low_ms=1))
    exponential_delay: At[int] | None = key(duration(low_ms=1))
    percentage: Percent | None = key(record(Percent))
    percent: At[int] | None = key(integer(0, 100))
    NEED: ClassVar[Groups] = (("fixedDelay", "exponentialDelay"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    span: Span
    http_status: At[int] | None = key(integer(200, 599))
    grpc_status: At[str] | None = key(STRING)
    http2_error: At[str] | None = key(STRING)
    percentage: Percent | None = key(record(Percent))
    percent: At[int] | None = key(integer(0, 100))
    ONE_OF: ClassVar[Groups] = (("httpStatus", "grpcStatus", "http2Error"),)
    NEED: ClassVar[Groups] = (("httpStatus", "grpcStatus", "http2Error"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    span: Span
    delay: Delay | None = key(record(Delay))
    abort: Abort | None = key(record(Abort))
    NEED: ClassVar[Groups] = (("delay", "abort"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    span: Span
    destination: Destination = key(DESTINATION, required=True)
    percentage: Percent | None = key(record(Percent))


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginMatch:
    span: Span
    exact: At[str] | None = key(wire.NONEMPTY)
    prefix: At[str] | None = key(wire.NONEMPTY)
    regex: At[str] | None = key(wire.REGEX)
    ONE_OF: ClassVar[Groups] = (("exact", "prefix", "regex"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    span: Span
    allow_origins: tuple[OriginMatch, ...] = keys(sequence(record(OriginMatch)))
    allow_origin: tuple[At[str], ...] = keys(sequence(STRING))
    allow_methods: tuple[At[str], ...] = keys(sequence(enum(*_METHODS)))
    allow_headers: tuple[At[str], ...] = keys(sequence(wire.NONEMPTY))
    expose_headers: tuple[At[str], ...] = keys(sequence(wire.NONEMPTY))
    max_age: At[int] | None = key(duration())
    allow_credentials: At[bool] | None = key(BOOL)
    unmatched_preflights: At[str] | None = key(enum("UNSPECIFIED", "FORWARD", "IGNORE"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    span: Span
    name: At[str] | None = key(STRING)
    namespace: At[str] | None = key(STRING)


_DELEGATE = refused("delegation to another VirtualService isn't resolved", "write the delegate's routes here")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """One item of `http`: the first that matches decides."""

    span: Span
    name: At[str] | None = key(STRING)
    match: tuple[HttpMatch, ...] = keys(sequence(record(HttpMatch)))
    route: tuple[WeightedDestination, ...] = keys(sequence(record(WeightedDestination)))
    redirect: Redirect | None = key(record(Redirect))
    direct_response: DirectResponse | None = key(record(DirectResponse))
    delegate: Delegate | None = key(record(Delegate), note=_DELEGATE)
    rewrite: Rewrite | None = key(record(Rewrite))
    timeout: At[int] | None = key(duration())
    retries: Retries | None = key(record(Retries))
    headers: Headers | None = key(record(Headers))
    fault: Fault | None = key(record(Fault), note=unenforced("no fault is injected"))
    mirror: Destination | None = key(DESTINATION, note=unenforced("requests aren't mirrored"))
    mirrors: tuple[Mirror, ...] = keys(sequence(record(Mirror)), note=unenforced("requests aren't mirrored"))
    mirror_percent: At[int] | None = key(integer(0, 100))
    mirror_percentage: Percent | None = key(record(Percent))
    cors_policy: Cors | None = key(record(Cors), note=unenforced("no CORS headers are added, no preflight answered"))
    ONE_OF: ClassVar[Groups] = (
        ("route", "redirect", "directResponse", "delegate"),
        ("redirect", "rewrite"),
        ("directResponse", "rewrite"),
        ("redirect", "fault"),
        ("mirror", "mirrors"),
    )
    NEED: ClassVar[Groups] = (("route", "redirect", "directResponse", "delegate"),)

    def check(self, decoder: Decoder, path: str) -> None:
        weights = [0 if item.weight is None else item.weight.value for item in self.route]
        if len(weights) > 1 and not sum(weights):
            decoder.error("L7FP204", self.span, f"{path}.route", "all weights are 0", "give at least one a weight")
        share = self.mirror_percentage or self.mirror_percent
        if share is not None and self.mirror is None:
            decoder.warning(
                "L7FP503", share.span, path, "a percentage to mirror has no effect without mirror", "remove it"
            )
        if self.redirect is not None and self.redirect.prefix_rewrite is not None:
            for match in self.match:
                if match.uri is not None and match.uri.prefix is None:
                    message = "redirect.prefixRewrite needs a prefix to replace"
                    decoder.error("L7FP205", match.uri.span, path, message, "match by uri.prefix, or use redirect.uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpDestination:
    span: Span
    destination: Destination = key(DESTINATION, required=True)
    weight: At[int] | None = key(integer(0, 2**31 - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpMatch:
    """`match` of `tcp` and `tls` routes."""

    span: Span
    sni_hosts: tuple[At[str], ...] = keys(sequence(wire.HOST, at_least=1))
    destination_subnets: tuple[At[str], ...] = keys(sequence(wire.CIDR))
    port: At[int] | None = key(PORT)
    source_labels: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    source_subnet: At[str] | None = key(wire.CIDR)
    source_namespace: At[str] | None = key(STRING)
    gateways: tuple[At[str], ...] = keys(GATEWAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRoute:
    span: Span
    match: tuple[TcpMatch, ...] = keys(sequence(record(TcpMatch)))
    route: tuple[TcpDestination, ...] = keys(sequence(record(TcpDestination)))


_OPAQUE = unenforced("TLS and TCP connections pass untouched", "l7fp routes HTTP requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """`spec`. Without `hosts` it is a delegate."""

    span: Span
    hosts: tuple[At[str], ...] = keys(sequence(wire.HOST))
    gateways: tuple[At[str], ...] = keys(GATEWAYS)
    http: tuple[HttpRoute, ...] = keys(sequence(record(HttpRoute)))
    tcp: tuple[TcpRoute, ...] = keys(sequence(record(TcpRoute)), note=_OPAQUE)
    tls: tuple[TcpRoute, ...] = keys(sequence(record(TcpRoute)), note=_OPAQUE)
    export_to: tuple[At[str], ...] = keys(sequence(STRING))
    NEED: ClassVar[Groups] = (("http", "tcp", "tls"),)

    def check(self, decoder: Decoder, path: str) -> None:
        mesh = not self.gateways or any(gateway.value == "mesh" for gateway in self.gateways)
        seen: set[str] = set()
        for host in self.hosts:
            if host.value.lower() in seen:
                decoder.error("L7FP104", host.span, path, f"host `{host.value}` is given twice", "keep one")
            seen.add(host.value.lower())
            if mesh and host.value == "*":
                hint = "name the hosts, or bind to a gateway"
                decoder.error("L7FP204", host.span, path, "`*` is not possible for the gateway `mesh`", hint)
        if not self.hosts and self.http:
            message = "without hosts this is a delegate, which isn't resolved"
            decoder.error("L7FP402", self.span, path, message, "add hosts, and the routes where they belong")


SPEC = record(VirtualService)
