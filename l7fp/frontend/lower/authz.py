"""AuthorizationPolicies to IR, and to the workloads that they guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import re2

from l7fp.frontend import wire
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.authorization_policy import (
    HEADER_KEY,
    AuthorizationPolicy,
    Operation,
    Rule,
    Source,
    When,
)
from l7fp.frontend.lower.context import ROOT_NAMESPACE, Context, Protocol, selects, texts
from l7fp.frontend.schema import At
from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    CidrMatch,
    Condition,
    Field,
    FieldKind,
    Match,
    Matcher,
    PortMatch,
    StringKind,
    StringMatch,
)

DRY_RUN = "istio.io/dry-run"

_Texts = Sequence[At[str]]


def lower_authz(ast: Ast, context: Context) -> tuple[AuthzPolicy, ...]:
    """All policies by name; fills `policies` of the workloads."""
    made: list[AuthzPolicy] = []
    for item, spec in ast.of(AuthorizationPolicy):
        if spec.action is not None and spec.action.value == "CUSTOM":
            continue  # refused already
        action = AuthzAction.ALLOW if spec.action is None else AuthzAction[spec.action.value]
        dry_run = item.annotation(DRY_RUN)
        if dry_run is not None and dry_run.value.lower() == "true":
            message = f"{item} is a dry run: it is evaluated and changes no verdict"
            context.sink.warning("L7FP412", dry_run.span, message, f"remove the annotation {DRY_RUN} to enforce it")
            action = AuthzAction.AUDIT
        name = f"{item.namespace}/{item.name}"
        rules = tuple(_rule(rule, item, context, action) for rule in spec.rules or ())
        made.append(AuthzPolicy(name=name, action=action, rules=rules, span=item.span))
        _select(item, spec, name, action, context)
    return tuple(sorted(made, key=lambda policy: policy.name))


def _select(item: Object, spec: AuthorizationPolicy, name: str, action: AuthzAction, context: Context) -> None:
    targets = (spec.target_ref, *spec.target_refs) if spec.target_ref is not None else spec.target_refs
    for target in targets:
        if target is None:
            continue
        if target.kind.value.startswith("Gateway"):
            message = f"{item} guards a gateway; l7fp guards workloads"
            context.sink.warning("L7FP406", target.span, message, "it is not enforced here")
        else:
            message = f"{item} guards a waypoint of {target.kind.value} `{target.name.value}`, which doesn't exist here"
            context.sink.error("L7FP402", target.span, message, "use selector, to guard the workloads themselves")
    if targets:
        return
    wanted = {} if spec.selector is None else texts(spec.selector.match_labels)
    everywhere = item.namespace == ROOT_NAMESPACE
    guarded = 0
    for workload in context.workloads.values():
        if (everywhere or workload.namespace == item.namespace) and selects(workload.labels, wanted):
            workload.policies.append(name)
            guarded += 1
    if not guarded:
        hint = "check its namespace and selector, or add the Pods"
        context.sink.warning("L7FP308", item.span, f"{item} guards no workload of the input", hint)
    elif action is not AuthzAction.AUDIT:
        _unguarded_ports(item, spec, name, action, context)


def _unguarded_ports(item: Object, spec: AuthorizationPolicy, name: str, action: AuthzAction, context: Context) -> None:
    """A policy would hold on ports that l7fp lets pass, too: say so, as less would be enforced."""
    for service in context.services.values():
        for port in service.ports:
            if port.protocol is Protocol.HTTP:
                continue
            for endpoint in service.endpoints.get(port.number, ()):
                workload = context.workloads.get(endpoint.workload)
                if workload is None or name not in workload.policies or not _covers(spec, action, endpoint.port):
                    continue
                message = (
                    f"{item} also guards port {endpoint.port} of {workload.name} ({service.host}:{port.number}), "
                    f"which isn't HTTP/1.1: nothing is enforced there"
                )
                hint = "guard that port by other means, and limit this policy to others (notPorts in a DENY rule)"
                context.sink.error("L7FP410", item.span, message, hint)
                break


def _covers(spec: AuthorizationPolicy, action: AuthzAction, port: int) -> bool:
    """Whether the policy has a say on connections to `port`."""
    if action is AuthzAction.ALLOW:
        return True
    text = str(port)
    for rule in spec.rules or ():
        if not rule.to:
            return True
        for to in rule.to:
            ports = [value.value for value in to.operation.ports]
            others = [value.value for value in to.operation.not_ports]
            if (not ports or text in ports) and text not in others:
                return True
    return False


def _rule(rule: Rule, item: Object, context: Context, action: AuthzAction) -> AuthzRule:
    made = AuthzRule(
        sources=tuple(_source(from_.source, item.namespace) for from_ in rule.from_),
        operations=tuple(_operation(to.operation) for to in rule.to),
        when=Match(
            conditions=tuple(c for when in rule.when for c in _when(when, item.namespace)),
            span=rule.when[0].span if rule.when else rule.span,
        ),
        span=rule.span,
    )
    for match in (*made.sources, made.when):
        for condition in match.conditions:
            if condition.field.kind is FieldKind.REQUEST_PRINCIPAL and not condition.negate:
                message = f"{item}: tokens aren't verified, so this condition never holds"
                context.sink.warning("L7FP411", condition.span, message, f"this {action.value} rule never applies")
    return made


def _source(source: Source, namespace: str) -> Match:
    principal, space = Field(FieldKind.SOURCE_PRINCIPAL), Field(FieldKind.SOURCE_NAMESPACE)
    token = Field(FieldKind.REQUEST_PRINCIPAL)
    peer, remote = Field(FieldKind.SOURCE_IP), Field(FieldKind.REMOTE_IP)

    def account(value: str) -> Matcher:
        return _account(value, namespace)

    return _conjunction(
        source.span,
        (principal, source.principals, source.not_principals, pattern),
        (token, source.request_principals, source.not_request_principals, pattern),
        (space, source.namespaces, source.not_namespaces, pattern),
        (principal, source.service_accounts, source.not_service_accounts, account),
        (principal, source.trust_domains, source.not_trust_domains, _trust_domain),
        (peer, source.ip_blocks, source.not_ip_blocks, _cidr),
        (remote, source.remote_ip_blocks, source.not_remote_ip_blocks, _cidr),
    )


def _operation(operation: Operation) -> Match:
    return _conjunction(
        operation.span,
        (Field(FieldKind.AUTHORITY), operation.hosts, operation.not_hosts, _host),
        (Field(FieldKind.METHOD), operation.methods, operation.not_methods, pattern),
        (Field(FieldKind.PATH), operation.paths, operation.not_paths, _path),
        (Field(FieldKind.DESTINATION_PORT), operation.ports, operation.not_ports, _port),
    )


def _when(when: When, namespace: str) -> tuple[Condition, ...]:
    name = when.key.value
    header = HEADER_KEY.fullmatch(name)
    field: Field
    make: Callable[[str], Matcher] = pattern
    if header is not None:
        lowered = header[1].lower()
        pseudo = {":method": FieldKind.METHOD, ":authority": FieldKind.AUTHORITY, "host": FieldKind.AUTHORITY}
        field = Field(pseudo[lowered]) if lowered in pseudo else Field(FieldKind.HEADER, lowered)
    elif name.startswith("request.auth."):
        field = Field(FieldKind.REQUEST_PRINCIPAL)
    else:
        kinds: dict[str, tuple[FieldKind, Callable[[str], Matcher]]] = {
            "source.ip": (FieldKind.SOURCE_IP, _cidr),
            "remote.ip": (FieldKind.REMOTE_IP, _cidr),
            "destination.ip": (FieldKind.DESTINATION_IP, _cidr),
            "destination.port": (FieldKind.DESTINATION_PORT, _port),
            "source.namespace": (FieldKind.SOURCE_NAMESPACE, pattern),
            "source.principal": (FieldKind.SOURCE_PRINCIPAL, pattern),
            "source.serviceAccount": (FieldKind.SOURCE_PRINCIPAL, lambda value: _account(value, namespace)),
            "source.trustDomain": (FieldKind.SOURCE_PRINCIPAL, _trust_domain),
            "connection.sni": (FieldKind.SNI, pattern),
        }
        kind, make = kinds.get(name, (FieldKind.REQUEST_PRINCIPAL, pattern))
        field = Field(kind)
    return _conjunction(when.span, (field, when.values, when.not_values, make)).conditions


def _conjunction(span: Any, *rows: tuple[Field, _Texts, _Texts, Callable[[str], Matcher]]) -> Match:
    made: list[Condition] = []
    for field, values, others, make in rows:
        for listed, negate in ((values, False), (others, True)):
            if listed:
                any_of = tuple(dict.fromkeys(make(value.value) for value in listed))
                made.append(Condition(field=field, any_of=any_of, negate=negate, span=listed[0].span))
    return Match(conditions=tuple(made), span=span)


def pattern(value: str, *, ignore_case: bool = False) -> StringMatch:
    """Istio's forms: `*`, `*suffix`, `prefix*`, exact."""
    if value == "*":
        return StringMatch(StringKind.PRESENT)
    if value.startswith("*"):
        return StringMatch(StringKind.SUFFIX, value[1:], ignore_case)
    if value.endswith("*"):
        return StringMatch(StringKind.PREFIX, value[:-1], ignore_case)
    return StringMatch(StringKind.EXACT, value, ignore_case)


def _host(value: str) -> Matcher:
    return pattern(value, ignore_case=True)  # CVE-2021-39155


def _path(value: str) -> Matcher:
    return StringMatch(StringKind.PATH_TEMPLATE, value) if "{" in value else pattern(value)


def _account(value: str, namespace: str) -> Matcher:
    space, _, name = value.rpartition("/")
    return StringMatch(StringKind.SUFFIX, f"/ns/{space or namespace}/sa/{name}")


def _trust_domain(value: str) -> Matcher:
    if value == "*":
        return StringMatch(StringKind.PRESENT)
    if value.startswith("*"):
        return StringMatch(StringKind.REGEX, f"[^/]*{re2.escape(value[1:])}/.*")
    return StringMatch(StringKind.PREFIX, value[:-1] if value.endswith("*") else f"{value}/")


def _cidr(value: str) -> Matcher:
    return CidrMatch(wire.canonical_cidr(value))


def _port(value: str) -> Matcher:
    return PortMatch(int(value))
