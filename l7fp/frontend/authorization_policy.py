"""Istio AuthorizationPolicy: AST and schema (security.istio.io/v1, v1beta1)."""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from l7fp.frontend import wire
from l7fp.frontend.destination_rule import WorkloadSelector
from l7fp.frontend.schema import (
    STRING,
    At,
    Decoder,
    Groups,
    checked,
    did_you_mean,
    enum,
    key,
    keys,
    record,
    sequence,
)
from l7fp.source import Span

Texts = tuple[At[str], ...]

PLAIN_KEYS = (
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
)
HEADER_KEY = re.compile(r"request\.headers\[([^\]]+)\]")
CLAIM_KEY = re.compile(r"request\.auth\.claims(\[[^\]]+\])+")
ADDRESS_KEYS = frozenset(("source.ip", "remote.ip", "destination.ip"))
_SERVICE_ACCOUNT = re.compile(r"([a-z0-9][-a-z0-9]*/)?[A-Za-z0-9][-.A-Za-z0-9]*")
_TEMPLATE = re.compile(r"\{[^}]*\}?")
_TARGETS = {
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
}


def _port(value: str) -> wire.Problem:
    if value.isdigit() and 1 <= int(value) <= 65535 and value[0] != "0":
        return None
    return "L7FP204", f"`{value}` is not a port", 'write a number from 1 to 65535 in quotes, such as "8080"'


def _service_account(value: str) -> wire.Problem:
    if _SERVICE_ACCOUNT.fullmatch(value) and len(value) <= 320:
        return None
    return "L7FP204", f"`{value}` is not a service account", "write NAME or NAMESPACE/NAME, without wildcards"


def path_pattern(value: str) -> wire.Problem:
    """A path in one of Istio's forms: exact, `x*`, `*x`, `*`, or a template with `{*}` and `{**}`."""
    if not value:
        return "L7FP204", "the path is empty", "write / for the root, or * for any path"
    if "{" not in value and "}" not in value:
        return None
    operators = _TEMPLATE.findall(value)
    hint = "{*} stands for one whole part of the path, {**} for any number of them, with no operator after it"
    bad = [op for op in operators if op not in ("{*}", "{**}")]
    rest = _TEMPLATE.sub("", value)
    parts = [part for part in value.split("/") if part]
    whole = all(part in ("{*}", "{**}") or not set(part) & set("{}") for part in parts)
    if bad or not whole or "*" in rest or not value.startswith("/"):
        return "L7FP204", f"`{value}` is not a path template", hint
    if "{**}" in parts and any(part.startswith("{") for part in parts[parts.index("{**}") + 1 :]):
        return "L7FP204", f"`{value}`: no operator may follow {{**}}", hint
    return None


TEXTS = sequence(wire.NONEMPTY)
PORTS = sequence(checked(STRING, _port))
CIDRS = sequence(wire.CIDR)
PATHS = sequence(checked(STRING, path_pattern))
ACCOUNTS = sequence(checked(STRING, _service_account))


def _needs_entry(record_: object, names: tuple[str, ...], decoder: Decoder, span: Span, path: str) -> None:
    if not any(getattr(record_, name) for name in names):
        decoder.error("L7FP203", span, path, "says nothing", "give at least one condition, or remove it")


SOURCE_LISTS = (
    *("principals", "not_principals", "request_principals", "not_request_principals", "namespaces", "not_namespaces"),
    *("service_accounts", "not_service_accounts", "trust_domains", "not_trust_domains"),
    *("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"),
)
OPERATION_LISTS = ("hosts", "not_hosts", "ports", "not_ports", "methods", "not_methods", "paths", "not_paths")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    span: Span
    principals: Texts = keys(TEXTS)
    not_principals: Texts = keys(TEXTS)
    request_principals: Texts = keys(TEXTS)
    not_request_principals: Texts = keys(TEXTS)
    namespaces: Texts = keys(TEXTS)
    not_namespaces: Texts = keys(TEXTS)
    service_accounts: Texts = keys(ACCOUNTS)
    not_service_accounts: Texts = keys(ACCOUNTS)
    trust_domains: Texts = keys(TEXTS)
    not_trust_domains: Texts = keys(TEXTS)
    ip_blocks: Texts = keys(CIDRS)
    not_ip_blocks: Texts = keys(CIDRS)
    remote_ip_blocks: Texts = keys(CIDRS)
    not_remote_ip_blocks: Texts = keys(CIDRS)
    STRICT: ClassVar[bool] = True

    def check(self, decoder: Decoder, path: str) -> None:
        _needs_entry(self, SOURCE_LISTS, decoder, self.span, path)
        accounts = self.service_accounts or self.not_service_accounts
        if accounts and (self.principals or self.not_principals or self.namespaces or self.not_namespaces):
            message = "serviceAccounts can't be combined with principals or namespaces"
            decoder.error("L7FP205", accounts[0].span, path, message, "use principals for all of them")
        if len(accounts) > 16:
            decoder.error("L7FP204", accounts[16].span, path, "more than 16 service accounts", "split the rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class From:
    span: Span
    source: Source = key(record(Source), required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    span: Span
    hosts: Texts = keys(TEXTS)
    not_hosts: Texts = keys(TEXTS)
    ports: Texts = keys(PORTS)
    not_ports: Texts = keys(PORTS)
    methods: Texts = keys(TEXTS)
    not_methods: Texts = keys(TEXTS)
    paths: Texts = keys(PATHS)
    not_paths: Texts = keys(PATHS)
    STRICT: ClassVar[bool] = True

    def check(self, decoder: Decoder, path: str) -> None:
        _needs_entry(self, OPERATION_LISTS, decoder, self.span, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    span: Span
    operation: Operation = key(record(Operation), required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """An additional condition: any of `values` and none of `not_values`."""

    span: Span
    key: At[str] = key(wire.NONEMPTY, required=True)
    values: Texts = keys(TEXTS)
    not_values: Texts = keys(TEXTS)
    STRICT: ClassVar[bool] = True

    def check(self, decoder: Decoder, path: str) -> None:
        name = self.key.value
        if not self.values and not self.not_values:
            decoder.error("L7FP203", self.span, path, "needs values or notValues", "add values")
        header = HEADER_KEY.fullmatch(name)
        bad: wire.Problem = None
        if name.startswith("experimental."):
            decoder.error("L7FP402", self.key.span, path, f"`{name}` can't be known here", "remove the condition")
        elif header is not None:
            bad = wire.token(header[1])
        elif name not in PLAIN_KEYS and not CLAIM_KEY.fullmatch(name):
            possible = (*PLAIN_KEYS, "request.headers[NAME]", "request.auth.claims[NAME]")
            guess = did_you_mean(name, possible)
            bad = "L7FP204", f"unknown attribute `{name}`", f"{guess} possible: {', '.join(possible)}".strip()
        if bad is not None:
            decoder.error(bad[0], self.key.span, path, bad[1], bad[2])
        for value in (*self.values, *self.not_values):
            if name in ADDRESS_KEYS:
                bad = wire.cidr(value.value)
            elif name == "destination.port":
                bad = _port(value.value)
            elif name == "source.serviceAccount":
                bad = _service_account(value.value)
            else:
                bad = None
            if bad is not None:
                decoder.error(bad[0], value.span, path, bad[1], bad[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    span: Span
    from_: tuple[From, ...] = keys(sequence(record(From), at_least=1))
    to: tuple[To, ...] = keys(sequence(record(To), at_least=1))
    when: tuple[When, ...] = keys(sequence(record(When)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    span: Span
    name: At[str] = key(wire.NONEMPTY, required=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRef:
    span: Span
    group: At[str] | None = key(STRING)
    kind: At[str] = key(STRING, required=True)
    name: At[str] = key(wire.NONEMPTY, required=True)
    namespace: At[str] | None = key(STRING)

    def check(self, decoder: Decoder, path: str) -> None:
        group = "" if self.group is None else self.group.value
        if (group, self.kind.value) not in _TARGETS:
            message = f"a policy can't be attached to `{self.kind.value}` of group `{group}`"
            decoder.error("L7FP204", self.span, path, message, "possible: Gateway, GatewayClass, Service, ServiceEntry")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy:
    """`spec`. `rules` None: the key is absent."""

    span: Span
    selector: WorkloadSelector | None = key(record(WorkloadSelector))
    target_ref: TargetRef | None = key(record(TargetRef))
    target_refs: tuple[TargetRef, ...] = keys(sequence(record(TargetRef), at_least=1))
    action: At[str] | None = key(enum("ALLOW", "DENY", "AUDIT", "CUSTOM"))
    provider: Provider | None = key(record(Provider))
    rules: tuple[Rule, ...] | None = key(sequence(record(Rule)))
    ONE_OF: ClassVar[Groups] = (("selector", "targetRef", "targetRefs"),)

    def check(self, decoder: Decoder, path: str) -> None:
        action = "ALLOW" if self.action is None else self.action.value
        span = self.span if self.action is None else self.action.span
        if action in ("DENY", "CUSTOM") and not self.rules:
            message = f"{action} without rules never applies"
            decoder.error("L7FP203", span, path, message, "add rules; `rules: [{}]` applies to every request")
        if action == "CUSTOM":
            if self.provider is None:
                decoder.error("L7FP203", span, path, "CUSTOM needs a provider", "add provider.name")
            hint = "state the conditions as ALLOW or DENY rules"
            decoder.error("L7FP402", span, path, "external authorization isn't asked", hint)
        elif self.provider is not None:
            message = f"a provider makes no sense with {action}"
            decoder.error("L7FP205", self.provider.span, path, message, "remove provider")
        if self.selector is not None and not self.selector.match_labels:
            hint = "remove selector to say so plainly, or add matchLabels"
            decoder.warning("L7FP308", self.selector.span, path, "an empty selector means every workload", hint)


SPEC = record(AuthorizationPolicy)
