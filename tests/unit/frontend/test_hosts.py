"""Which virtual host answers for which name: services, short names, VirtualService hosts, wildcards, endpoints."""

from __future__ import annotations

from collections.abc import Callable

from l7fp.ir.interp import Decision
from l7fp.ir.model import Policy
from l7fp.ir.request import Source

PolicyOf = Callable[[str], Policy]
Asked = Callable[..., Decision]
Findings = Callable[[str], list[str]]


def _service(name: str, namespace: str, address: str, extra: str = "") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]{extra}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-0, namespace: {namespace}, labels: {{app: {name}}}}}
status: {{podIP: 10.1.{address.rsplit(".", 1)[-1] if address != "None" else 9}.1}}
---
"""


def _routes(name: str, namespace: str, host: str, status: int, extra: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{hosts: ["{host}"], http: [{{directResponse: {{status: {status}}}}}]{extra}}}
---
"""


def test_service_is_known_by_all_its_names_and_its_address(policy: PolicyOf, asked: Asked) -> None:
    made = policy(_service("web", "shop", "10.0.0.1"))
    for name in ("web", "WEB.shop", "web.shop.svc", "web.shop.svc.cluster.local", "10.0.0.1"):
        for authority in (name, f"{name}:80", f"{name}:1234"):
            assert asked(made, authority=authority).cluster == "outbound|80||web.shop.svc.cluster.local", authority
    assert asked(made, authority="else.where", destination_ip="10.0.0.1").cluster.endswith("web.shop.svc.cluster.local")
    assert asked(made, authority="else.where").status == 404


def test_ambiguous_short_name_is_left_to_the_destination_address(
    policy: PolicyOf, asked: Asked, findings: Findings
) -> None:
    text = _service("web", "a", "10.0.0.1") + _service("web", "b", "10.0.0.2")
    made = policy(text)
    assert asked(made, destination_ip="10.0.0.2").cluster == "outbound|80||web.b.svc.cluster.local"
    assert asked(made, authority="web.a", destination_ip="10.0.0.2").cluster == "outbound|80||web.a.svc.cluster.local"
    assert [code.split()[1] for code in findings(text)] == ["L7FP305"]


def test_headless_service_answers_for_its_pods_names(policy: PolicyOf, asked: Asked) -> None:
    made = policy(_service("db", "x", "None"))
    assert asked(made, authority="db-0.db.x.svc.cluster.local:80").cluster == "outbound|80||db.x.svc.cluster.local"
    assert asked(made, authority="db-0.db").cluster == "outbound|80||db.x.svc.cluster.local"


def test_short_host_means_a_service_of_the_virtual_services_namespace(policy: PolicyOf, asked: Asked) -> None:
    made = policy(_service("web", "a", "10.0.0.1") + _service("web", "b", "10.0.0.2") + _routes("v", "a", "web", 418))
    assert asked(made, authority="web.a").status == 418
    assert asked(made, authority="web.b").cluster == "outbound|80||web.b.svc.cluster.local"


def test_exact_host_beats_the_longest_wildcard(policy: PolicyOf, asked: Asked) -> None:
    text = "".join(_service(name, "a", f"10.0.0.{n}") for n, name in enumerate(("one", "two", "three"), 1))
    text += _service("four", "b", "10.0.0.4")
    text += _routes("all", "a", "*.cluster.local", 501)
    text += _routes("mine", "a", "*.a.svc.cluster.local", 502)
    text += _routes("this", "a", "one", 503)
    made = policy(text)
    assert [asked(made, authority=a).status for a in ("one.a", "two.a", "three", "four.b")] == [503, 502, 502, 501]


def test_host_that_is_no_service_is_routed_by_name_on_port_80(
    policy: PolicyOf, asked: Asked, findings: Findings
) -> None:
    text = _service("web", "a", "10.0.0.1") + _routes("v", "a", "*.example.com", 418)
    made = policy(text)
    assert asked(made, authority="x.example.com").status == 418
    assert asked(made, authority="x.example.com:80").status == 418
    assert asked(made, authority="example.com").status == 404
    assert [code.split()[:2] for code in findings(text)] == [["W", "L7FP313"]]


def test_two_virtual_services_cannot_claim_one_host(findings: Findings) -> None:
    text = _service("web", "a", "10.0.0.1") + _routes("v", "a", "web", 418)
    found = findings(text + _routes("w", "b", "web.a.svc.cluster.local", 500))
    assert [code.split()[:2] for code in found] == [["E", "L7FP304"]]


def test_virtual_service_for_another_namespace_holds_and_is_told(
    policy: PolicyOf, asked: Asked, findings: Findings
) -> None:
    text = _service("web", "a", "10.0.0.1") + _routes("v", "b", "web.a.svc.cluster.local", 418)
    assert asked(policy(text)).status == 418
    assert [code.split()[:2] for code in findings(text)] == [["I", "L7FP311"]]


def test_virtual_service_for_other_gateways_is_not_enforced(policy: PolicyOf, asked: Asked, findings: Findings) -> None:
    text = _service("web", "a", "10.0.0.1") + _routes("v", "a", "web", 418, ", gateways: [a/edge]")
    assert asked(policy(text)).cluster == "outbound|80||web.a.svc.cluster.local"
    assert [code.split()[:2] for code in findings(text)] == [["W", "L7FP406"]]


def test_export_to_hides_routes_from_clients_of_other_namespaces(policy: PolicyOf, asked: Asked) -> None:
    text = _service("web", "a", "10.0.0.1") + _routes("v", "a", "web", 418, ', exportTo: [".", c]')
    made = policy(text)
    assert asked(made, source=Source(namespace="a")).status == 418
    assert asked(made, source=Source(namespace="c")).status == 418
    assert asked(made, source=Source(namespace="b")).cluster == "outbound|80||web.a.svc.cluster.local"
    assert asked(made).cluster == "outbound|80||web.a.svc.cluster.local"


def test_endpoint_asked_directly_is_itself(policy: PolicyOf, asked: Asked) -> None:
    made = policy(_service("web", "a", "10.0.0.1") + _routes("v", "a", "web", 418))
    direct = asked(made, authority="10.1.1.1", destination_ip="10.1.1.1")
    assert direct.endpoint is not None
    assert (direct.endpoint.address, direct.endpoint.workload, direct.retry) == ("10.1.1.1", "a/web-0", None)
    assert asked(made, authority="anything", destination_ip="10.1.1.1").endpoint == direct.endpoint


def test_ports_that_are_not_http_have_no_table(policy: PolicyOf, findings: Findings) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: mix}
spec:
  clusterIP: 10.0.0.1
  selector: {app: mix}
  ports:
  - {name: tcp-db, port: 5000}
  - {name: x, port: 5001, appProtocol: https}
  - {name: grpc-api, port: 5002}
  - {name: grpc-web, port: 5003}
  - {name: x2, port: 5004, appProtocol: http}
  - {name: other, port: 5005}
  - {name: sql, port: 3306}
  - {name: http-udp, port: 5006, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: mix, labels: {app: mix}}
status: {podIP: 10.1.0.1}
"""
    made = policy(text)
    assert [table.port for table in made.tables] == [5003, 5004, 5005]
    assert made.services[0].ports == (5003, 5004, 5005)
    assert findings(text) == ["I L7FP409 9", "I L7FP409 10", "W L7FP413 11", "I L7FP502 14", "I L7FP409 15"]
