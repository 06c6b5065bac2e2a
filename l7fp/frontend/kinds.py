"""Which kinds of objects are read, which are known and not enforced, and which are not a mesh's.

`decode` turns one YAML document into AST objects (several for a List).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l7fp.diagnostics import Severity
from l7fp.frontend import authorization_policy, destination_rule, kubernetes, service_entry, virtual_service
from l7fp.frontend.ast import METADATA, Metadata, Object
from l7fp.frontend.schema import Decoder, Type, did_you_mean
from l7fp.frontend.yaml import Mapping, Node, Scalar, Sequence
from l7fp.source import Span

ISTIO_NETWORKING, ISTIO_SECURITY = "networking.istio.io", "security.istio.io"
_ISTIO_VERSIONS = ("v1", "v1beta1", "v1alpha3", "v1alpha1")


@dataclass(frozen=True, slots=True)
class Kind:
    """`whole`: the object has no `spec`, its top level is decoded."""

    type: Type[Any]
    versions: tuple[str, ...]
    whole: bool = False


READ: dict[tuple[str, str], Kind] = {
    (ISTIO_NETWORKING, "VirtualService"): Kind(virtual_service.SPEC, _ISTIO_VERSIONS),
    (ISTIO_NETWORKING, "DestinationRule"): Kind(destination_rule.SPEC, _ISTIO_VERSIONS),
    (ISTIO_NETWORKING, "ServiceEntry"): Kind(service_entry.SERVICE_ENTRY, _ISTIO_VERSIONS),
    (ISTIO_NETWORKING, "WorkloadEntry"): Kind(service_entry.WORKLOAD_ENTRY, _ISTIO_VERSIONS),
    (ISTIO_SECURITY, "AuthorizationPolicy"): Kind(authorization_policy.SPEC, ("v1", "v1beta1")),
    ("", "Service"): Kind(kubernetes.SERVICE, ("v1",)),
    ("", "Endpoints"): Kind(kubernetes.ENDPOINTS, ("v1",), whole=True),
    ("", "Pod"): Kind(kubernetes.POD, ("v1",), whole=True),
    ("", "Namespace"): Kind(kubernetes.NAMESPACE, ("v1",), whole=True),
    ("discovery.k8s.io", "EndpointSlice"): Kind(kubernetes.ENDPOINT_SLICE, ("v1", "v1beta1"), whole=True),
}

_ROUTES = "this version doesn't read it; requests take the other routes"
_PROTECTS = "it protects, and l7fp can't enforce it"
UNREAD: dict[str, dict[str, tuple[Severity, str]]] = {
    ISTIO_NETWORKING: {
        "Gateway": (Severity.WARNING, "l7fp serves the gateway `mesh` only"),
        "Sidecar": (Severity.WARNING, "every client sees every service"),
        "EnvoyFilter": (Severity.ERROR, "there is no Envoy to patch, and the patch may protect"),
        "ProxyConfig": (Severity.WARNING, "there is no Envoy to configure"),
        "WorkloadGroup": (Severity.WARNING, "workloads are those listed as WorkloadEntry"),
    },
    ISTIO_SECURITY: {
        "RequestAuthentication": (Severity.ERROR, f"tokens aren't verified: {_PROTECTS}"),
        "PeerAuthentication": (Severity.WARNING, "connections are plain; peers are known by their cgroup"),
    },
    "telemetry.istio.io": {"Telemetry": (Severity.WARNING, "metrics, logs and traces are l7fp's own")},
    "extensions.istio.io": {
        "WasmPlugin": (Severity.ERROR, "WebAssembly isn't run, and the plugin may protect"),
        "TrafficExtension": (Severity.ERROR, "extensions aren't run, and this one may protect"),
    },
    "install.istio.io": {"IstioOperator": (Severity.WARNING, "there is no Istio to install")},
    "gateway.networking.k8s.io": {
        **dict.fromkeys(
            ("GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"),
            (Severity.WARNING, _ROUTES),
        ),
        "ReferenceGrant": (Severity.WARNING, _ROUTES),
        "BackendTLSPolicy": (Severity.ERROR, _PROTECTS),
        "ListenerSet": (Severity.WARNING, _ROUTES),
    },
    "policy.linkerd.io": {
        **dict.fromkeys(
            ("Server", "ServerAuthorization", "AuthorizationPolicy", "MeshTLSAuthentication"),
            (Severity.ERROR, _PROTECTS),
        ),
        "NetworkAuthentication": (Severity.ERROR, _PROTECTS),
        "HTTPLocalRateLimitPolicy": (Severity.ERROR, _PROTECTS),
        "HTTPRoute": (Severity.WARNING, _ROUTES),
        "EgressNetwork": (Severity.ERROR, _PROTECTS),
    },
    "linkerd.io": {"ServiceProfile": (Severity.WARNING, _ROUTES)},
    "split.smi-spec.io": {"TrafficSplit": (Severity.WARNING, _ROUTES)},
    "specs.smi-spec.io": dict.fromkeys(("HTTPRouteGroup", "TCPRoute", "UDPRoute"), (Severity.WARNING, _ROUTES)),
    "access.smi-spec.io": {"TrafficTarget": (Severity.ERROR, _PROTECTS)},
    "metaprotocol.aeraki.io": dict.fromkeys(("MetaRouter", "ApplicationProtocol"), (Severity.WARNING, _ROUTES)),
    "redis.aeraki.io": dict.fromkeys(("RedisService", "RedisDestination"), (Severity.WARNING, _ROUTES)),
    "dubbo.aeraki.io": {"DubboAuthorizationPolicy": (Severity.ERROR, _PROTECTS)},
    "l7mp.io": dict.fromkeys(("VirtualService", "Target", "Rule", "Route"), (Severity.WARNING, _ROUTES)),
}
MESH_GROUPS = frozenset(UNREAD)


def decode(decoder: Decoder, node: Node) -> list[Object]:
    """AST objects of one document."""
    if not isinstance(node, Mapping):
        hint = "a document starts with apiVersion: and kind:"
        decoder.sink.error("L7FP207", node.span, "a Kubernetes object is expected", hint)
        return []
    kind, version = _text(node.get("kind")), _text(node.get("apiVersion"))
    if kind is None or version is None:
        missing = "kind" if version is not None else "apiVersion"
        decoder.sink.error("L7FP207", _head(node), f"the object has no `{missing}`", f"add `{missing}`")
        return []
    items = node.get("items")
    if kind.value.endswith("List") and isinstance(items, Sequence):
        return [made for item in items.items for made in decode(decoder, item)]
    group, _, api = version.value.rpartition("/")
    known = READ.get((group, kind.value))
    if known is None:
        _unread(decoder, node, group, kind, version)
        return []
    if api not in known.versions:
        hint = f"possible: {', '.join(f'{group}/{v}' if group else v for v in known.versions)}"
        decoder.sink.error("L7FP208", version.span, f"`{kind.value}` has no version `{api}` here", hint)
        return []
    return _object(decoder, node, kind.value, known)


def _object(decoder: Decoder, node: Mapping, kind: str, known: Kind) -> list[Object]:
    head = node.get("metadata")
    if head is None:
        decoder.sink.error("L7FP203", _head(node), f"{kind}: `metadata` is missing", "add metadata with a name")
        return []
    metadata: Metadata | None = decoder.decode(METADATA, head, "metadata")
    if metadata is None:
        return []
    if metadata.name is None and metadata.generate_name is None:
        decoder.sink.error("L7FP203", metadata.span, f"{kind}: `metadata.name` is missing", "add a name")
        return []
    if known.whole:
        spec = decoder.decode(known.type, node, kind)
    else:
        for name, _ in node.items:
            if name.value not in ("apiVersion", "kind", "metadata", "spec", "status"):
                guess = did_you_mean(name.value, ("spec", "metadata", "status"))
                hint = f"{guess} possible here: apiVersion, kind, metadata, spec, status".strip()
                decoder.sink.error("L7FP201", name.span, f"unknown field `{name.value}`", hint)
        body = node.get("spec")
        spec = decoder.decode(known.type, Mapping((), _head(node)) if body is None else body, "spec")
    if spec is None:
        return []
    return [Object(kind=kind, metadata=metadata, spec=spec, span=_head(node))]


def _unread(decoder: Decoder, node: Mapping, group: str, kind: Scalar, version: Scalar) -> None:
    of_group = UNREAD.get(group)
    label = _name(node)
    if of_group is None:
        guess = did_you_mean(group, MESH_GROUPS) if group and not group.endswith("k8s.io") else ""
        if guess and kind.value in {name for _, name in READ} | {name for names in UNREAD.values() for name in names}:
            decoder.sink.error("L7FP208", version.span, f"unknown API group `{group}` of {kind.value}", guess)
            return
        hint = "it has no part in a mesh policy"
        decoder.sink.info("L7FP408", kind.span, f"{kind.value} {label} is skipped", hint)
        return
    found = of_group.get(kind.value)
    if found is None:
        possible = sorted({name for g, name in READ if g == group} | set(of_group))
        guess = did_you_mean(kind.value, possible)
        hint = f"{guess} possible: {', '.join(possible)}".strip()
        decoder.sink.error("L7FP206", kind.span, f"unknown kind `{kind.value}` of {group}", hint)
        return
    severity, reason = found
    if kind.value == "PeerAuthentication" and _holds(node.get("spec"), "mode", "STRICT"):
        severity, reason = Severity.ERROR, f"mutual TLS isn't demanded of clients: {_PROTECTS}"
    if kind.value == "Sidecar" and _holds(node.get("spec"), "mode", "REGISTRY_ONLY"):
        severity, reason = Severity.ERROR, f"connections to unknown hosts aren't refused: {_PROTECTS}"
    if severity is Severity.ERROR:
        hint = "enforce it elsewhere and leave it out here"
        decoder.sink.error("L7FP405", kind.span, f"{kind.value} {label} is not enforced: {reason}", hint)
    else:
        decoder.sink.warning("L7FP403", kind.span, f"{kind.value} {label} is not enforced: {reason}")


def _holds(node: Node | None, name: str, value: str) -> bool:
    """Whether anywhere below `node` the key `name` has this value."""
    match node:
        case Mapping(items=items):
            return any(
                (k.value == name and isinstance(v, Scalar) and v.value == value) or _holds(v, name, value)
                for k, v in items
            )
        case Sequence(items=listed):
            return any(_holds(child, name, value) for child in listed)
    return False


def _text(node: Node | None) -> Scalar | None:
    return node if isinstance(node, Scalar) and node.value else None


def _name(node: Mapping) -> str:
    head = node.get("metadata")
    found = _text(head.get("name")) if isinstance(head, Mapping) else None
    return "" if found is None else f"`{found.value}`"


def _head(node: Mapping) -> Span:
    """Place of an object: its `kind` line, else its first key."""
    for name, value in node.items:
        if name.value == "kind":
            return Span(name.span.file, name.span.line, name.span.column, value.span.end_line, value.span.end_column)
    return node.items[0][0].span if node.items else node.span
