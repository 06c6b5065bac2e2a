"""Authorization policies as Envoy's RBAC filters, in the form that Istio gives them.

They run at the server's sidecar. Who the client is comes from filter state, as behind Istio's tunnels; port and
address of the server are known when its sidecar is configured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from l7fp.ir.conditions import Stance, compile_condition
from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    CidrMatch,
    Condition,
    FieldKind,
    Match,
    StringKind,
    StringMatch,
)
from l7fp.ir.request import Request, RequestView, Source
from tests.conformance.envoy_routes import InexpressibleError, string_match, template

Json = dict[str, Any]

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_IDENTITY = {FieldKind.SOURCE_PRINCIPAL: "principal", FieldKind.SOURCE_NAMESPACE: "namespace"}
_HEADERS = {FieldKind.METHOD: ":method", FieldKind.AUTHORITY: ":authority"}
_JWT: Json = {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "payload"}, {"key": "sub"}]}


def identity(source: Source) -> list[Json]:
    """The filter that tells the others who the client is."""
    known = {"principal": source.principal, "namespace": source.namespace}
    values = [
        {
            "object_key": f"conformance.{name}",
            "factory_key": "envoy.string",
            "format_string": {"text_format_source": {"inline_string": value.replace("%", "%%")}},
        }
        for name, value in known.items()
        if value
    ]
    config = {"@type": f"{_HTTP}.set_filter_state.v3.Config", "on_request_headers": values}
    return [{"name": "envoy.filters.http.set_filter_state", "typed_config": config}] if values else []


def filters(policies: Sequence[AuthzPolicy], port: int, address: str) -> list[Json]:
    """RBAC filters of a server at `address`:`port`: denials first, then what is allowed if anything says so."""
    view = RequestView(Request(port=port, method="", target="/", authority=""), port, address)
    out = []
    for action in (AuthzAction.DENY, AuthzAction.ALLOW):
        chosen = [p for p in policies if p.action is action]
        rules = {f"{policy.name}[{n}]": _rule(rule, view) for policy in chosen for n, rule in enumerate(policy.rules)}
        if rules or (chosen and action is AuthzAction.ALLOW):
            config = {"@type": f"{_HTTP}.rbac.v3.RBAC", "rules": {"action": action.value, "policies": rules}}
            out.append({"name": "envoy.filters.http.rbac", "typed_config": config})
    return out


def _rule(rule: AuthzRule, view: RequestView) -> Json:
    when = [c for c in rule.when.conditions if not _about_source(c)]
    about_source = [c for c in rule.when.conditions if _about_source(c)]
    operations = [_all(_permission(c, view) for c in (*m.conditions, *when)) for m in rule.operations or (Match(),)]
    sources = [_ids(_principal(c) for c in (*m.conditions, *about_source)) for m in rule.sources or (Match(),)]
    return {"permissions": operations, "principals": sources}


def _about_source(condition: Condition) -> bool:
    return condition.field.kind in (*_IDENTITY, FieldKind.SOURCE_IP, FieldKind.REMOTE_IP, FieldKind.REQUEST_PRINCIPAL)


def _all(items: Iterable[Json]) -> Json:
    return {"and_rules": {"rules": [{"any": True}, *items]}}


def _ids(items: Iterable[Json]) -> Json:
    return {"and_ids": {"ids": [{"any": True}, *items]}}


def _permission(condition: Condition, view: RequestView) -> Json:
    kind = condition.field.kind
    if kind in (FieldKind.DESTINATION_PORT, FieldKind.DESTINATION_IP):
        holds = compile_condition(condition, Stance.DENY)(view)
        return {"any": True} if holds else {"not_rule": {"any": True}}
    strings = [m for m in condition.any_of if isinstance(m, StringMatch)]
    match kind:
        case FieldKind.PATH:
            made = [
                {"uri_template": template(m)}
                if m.kind is StringKind.PATH_TEMPLATE
                else {"url_path": {"path": string_match(m)}}
                for m in strings
            ]
        case FieldKind.HEADER:
            made = [{"header": _header(condition.field.name, m)} for m in strings]
        case FieldKind.METHOD | FieldKind.AUTHORITY:
            made = [{"header": _header(_HEADERS[kind], m)} for m in strings]
        case _:
            raise InexpressibleError(f"RBAC can't look at {kind.value}")
    either = {"or_rules": {"rules": made}}
    return {"not_rule": either} if condition.negate else either


def _header(name: str, match: StringMatch) -> Json:
    present = match.kind is StringKind.PRESENT
    return {"name": name, **({"present_match": True} if present else {"string_match": string_match(match)})}


def _principal(condition: Condition) -> Json:
    kind = condition.field.kind
    strings = [m for m in condition.any_of if isinstance(m, StringMatch)]
    made: list[Json]
    match kind:
        case FieldKind.SOURCE_PRINCIPAL | FieldKind.SOURCE_NAMESPACE:
            key = f"conformance.{_IDENTITY[kind]}"
            made = [{"filter_state": {"key": key, "string_match": string_match(m)}} for m in strings]
        case FieldKind.SOURCE_IP | FieldKind.REMOTE_IP:
            blocks = [m.network.split("/") for m in condition.any_of if isinstance(m, CidrMatch)]
            made = [{"remote_ip": {"address_prefix": ip, "prefix_len": int(bits)}} for ip, bits in blocks]
        case FieldKind.REQUEST_PRINCIPAL:
            made = [{"metadata": {**_JWT, "value": {"string_match": string_match(m)}}} for m in strings]
        case _:
            raise InexpressibleError(f"RBAC can't look at {kind.value}")
    either = {"or_ids": {"ids": made}}
    return {"not_id": either} if condition.negate else either
