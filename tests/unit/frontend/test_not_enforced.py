"""Nothing is dropped in silence: what has no effect is named, with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from l7fp.frontend import authorization_policy, destination_rule, service_entry, virtual_service
from l7fp.frontend.schema import Key, table

Findings = Callable[[str], list[str]]


def _object(kind: str, group: str, spec: str, metadata: str = "name: x") -> str:
    return f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"


ROUTE = "route: [{destination: {host: h.example}}]"


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("fault: {abort: {httpStatus: 500}}", "W L7FP401"),
        ("mirror: {host: m.example}", "W L7FP401"),
        ("mirrors: [{destination: {host: m.example}}]", "W L7FP401"),
        ("mirrorPercentage: {value: 5}", "W L7FP503"),
        ("corsPolicy: {allowOrigins: [{exact: a}]}", "W L7FP401"),
        ("retries: {attempts: 2, backoff: 1s}", "W L7FP401"),
        ("retries: {attempts: 2, retryRemoteLocalities: true}", "W L7FP401"),
        ("match: [{statPrefix: x}]", "W L7FP401"),
        ("match: [{uri: {regex: a}, ignoreUriCase: true}]", "W L7FP503"),
        ("match: [{uri: {exact: a}}]", "W L7FP501"),
        ("match: [{uri: {prefix: '/a?b'}}]", "W L7FP501"),
        ("match: [{headers: {uri: {exact: /}}}]", "W L7FP503"),
        ("match: [{headers: {':path': {exact: /}}}]", "E L7FP402"),
        ("match: [{headers: {'@request.auth.claims.sub': {exact: x}}}]", "E L7FP402"),
        ("headers: {request: {set: {connection: close}}}", "E L7FP404"),
        ("headers: {request: {add: {x-a: '%START_TIME%'}}}", "E L7FP404"),
        ("headers: {request: {remove: [':path']}}", "E L7FP404"),
        ("headers: {response: {set: {':authority': a}}}", "E L7FP404"),
    ],
)
def test_route_field(findings: Findings, field: str, code: str) -> None:
    text = _object(
        "VirtualService", "networking.istio.io", f"\n  hosts: [h.example]\n  http:\n  - {ROUTE}\n    {field}"
    )
    assert f"{code} 8" in findings(text)


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("{tls: {mode: ISTIO_MUTUAL}}", "E L7FP402"),
        ("{tls: {mode: SIMPLE}}", "E L7FP402"),
        ("{tunnel: {targetHost: a, targetPort: 1}}", "E L7FP402"),
        ("{proxyProtocol: {version: V1}}", "E L7FP402"),
        ("{loadBalancer: {simple: PASSTHROUGH}}", "E L7FP402"),
        ("{loadBalancer: {consistentHash: {useSourceIp: true}}}", "W L7FP401"),
        ("{loadBalancer: {localityLbSetting: {enabled: true}}}", "W L7FP401"),
        ("{loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}", "W L7FP401"),
        ("{outlierDetection: {consecutive5xxErrors: 1}}", "W L7FP401"),
        ("{connectionPool: {http: {maxRetries: 1}}}", "W L7FP401"),
        ("{retryBudget: {percent: 10}}", "W L7FP401"),
    ],
)
def test_traffic_policy_field(findings: Findings, policy: str, code: str) -> None:
    text = _object("DestinationRule", "networking.istio.io", f"{{host: h.example, trafficPolicy: {policy}}}")
    assert f"{code} 4" in findings(text)


@pytest.mark.parametrize(
    ("kind", "group", "spec", "code"),
    [
        ("Gateway", "networking.istio.io", "{}", "W L7FP403"),
        ("Sidecar", "networking.istio.io", "{}", "W L7FP403"),
        ("Sidecar", "networking.istio.io", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", "E L7FP405"),
        ("EnvoyFilter", "networking.istio.io", "{}", "E L7FP405"),
        ("RequestAuthentication", "security.istio.io", "{}", "E L7FP405"),
        ("PeerAuthentication", "security.istio.io", "{mtls: {mode: PERMISSIVE}}", "W L7FP403"),
        ("PeerAuthentication", "security.istio.io", "{mtls: {mode: STRICT}}", "E L7FP405"),
        ("PeerAuthentication", "security.istio.io", "{portLevelMtls: {'80': {mode: STRICT}}}", "E L7FP405"),
        ("Telemetry", "telemetry.istio.io", "{}", "W L7FP403"),
        ("HTTPRoute", "gateway.networking.k8s.io", "{}", "W L7FP403"),
        ("Server", "policy.linkerd.io", "{}", "E L7FP405"),
        ("ConfigMap", "example.com", "{}", "I L7FP408"),
        ("Gatewey", "networking.istio.io", "{}", "E L7FP206"),
        ("VirtualService", "networking.istio.com", "{}", "E L7FP208"),
    ],
)
def test_kind(findings: Findings, kind: str, group: str, spec: str, code: str) -> None:
    assert [found.rpartition(" ")[0] for found in findings(_object(kind, group, spec))] == [code]


def test_annotations_with_an_effect_elsewhere(findings: Findings) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n  annotations:\n    %s: a\n"
    assert findings(pod % "traffic.sidecar.istio.io/excludeInboundPorts") == ["W L7FP401 6"]
    assert findings(pod % "l7fp.io/cgruop") == ["E L7FP201 6"]
    assert findings(pod % "l7fp.io/cgroup") == []
    assert findings(pod % "example.com/anything") == []


def test_items_of_a_list_are_objects(findings: Findings) -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret}\n- {apiVersion: v1, kind: Service}\n"
    assert findings(text) == ["I L7FP408 4", "E L7FP203 5"]


@pytest.mark.parametrize(
    "spec",
    [
        *(
            virtual_service.VirtualService,
            virtual_service.HttpRoute,
            virtual_service.HttpMatch,
            virtual_service.Retries,
        ),
        *(destination_rule.DestinationRule, destination_rule.TrafficPolicy, destination_rule.ConnectionPool),
        *(service_entry.ServiceEntry, authorization_policy.AuthorizationPolicy, authorization_policy.Source),
    ],
)
def test_istio_records_refuse_unknown_keys(spec: Any) -> None:
    rows: dict[str, Key] = table(spec)
    assert rows
    assert not getattr(spec, "OPEN", False)
    assert all("_" not in name for name in rows), "keys are Istio's camelCase"
