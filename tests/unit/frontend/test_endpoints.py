"""Where services run, what subsets choose, and who the workloads are."""

from __future__ import annotations

from collections.abc import Callable

from l7fp.ir.model import Cluster, LoadBalancer, Policy, Workload

PolicyOf = Callable[[str], Policy]
Findings = Callable[[str], list[str]]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: main}]}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-0, uid: 1234, labels: {app: web, version: v1}}
spec: {serviceAccountName: web, containers: [{name: c, ports: [{name: main, containerPort: 8080}]}]}
status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}]}
---
""".replace("uid: 1234", 'uid: "1234"')


def _cluster(policy: Policy, name: str) -> Cluster:
    return next(cluster for cluster in policy.clusters if cluster.name == name)


def _addresses(policy: Policy, name: str = "outbound|80||web.default.svc.cluster.local") -> list[tuple[str, int, str]]:
    return [(e.address, e.port, e.workload) for e in _cluster(policy, name).endpoints]


def _workload(policy: Policy, name: str) -> Workload:
    return next(workload for workload in policy.workloads if workload.name == name)


def test_pods_that_the_service_selects(policy: PolicyOf) -> None:
    other = POD.replace("web-0", "other").replace("app: web", "app: other").replace("10.1.0.1", "10.1.0.2")
    ended = POD.replace("web-0", "ended").replace("status: {", "status: {phase: Succeeded, ").replace("0.1", "0.3")
    broken = POD.replace("web-0", "sick").replace(
        "status: {", 'status: {conditions: [{type: Ready, status: "False"}], '
    )
    made = policy(SERVICE + POD + other + ended + broken)
    assert _addresses(made) == [("10.1.0.1", 8080, "default/web-0")]


def test_workload_has_identity_and_addresses(policy: PolicyOf) -> None:
    workload = _workload(policy(SERVICE + POD), "default/web-0")
    assert workload.principal == "cluster.local/ns/default/sa/web"
    assert workload.addresses == ("10.1.0.1", "fd00::1")
    assert workload.labels == (("app", "web"), ("version", "v1"))
    assert workload.cgroup == "pod:1234"


def test_cgroup_annotation_wins_and_is_checked(policy: PolicyOf, findings: Findings) -> None:
    def annotated(path: str) -> str:
        return SERVICE + POD.replace("labels:", f'annotations: {{l7fp.io/cgroup: "{path}"}}, labels:')

    assert _workload(policy(annotated("/demo.slice/web/")), "default/web-0").cgroup == "demo.slice/web"
    for path in ("", "/", "../etc", "a//b"):
        assert [code.split()[:2] for code in findings(annotated(path))] == [["E", "L7FP204"]], path


def test_endpoint_slices_win_over_pods(policy: PolicyOf) -> None:
    slices = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9000}, {name: other, port: 9001}]
endpoints:
- {addresses: [10.1.0.1], targetRef: {kind: Pod, name: web-0}}
- {addresses: [10.1.0.9], conditions: {ready: false}}
---
"""
    assert _addresses(policy(SERVICE + POD + slices)) == [("10.1.0.1", 9000, "default/web-0")]


def test_endpoint_without_its_pod_has_the_services_labels(policy: PolicyOf, findings: Findings) -> None:
    endpoints = """
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.1.0.7}], ports: [{name: http, port: 9000}]}]
"""
    made = policy(SERVICE + endpoints)
    assert _addresses(made) == [("10.1.0.7", 9000, "default/web@10.1.0.7")]
    assert _workload(made, "default/web@10.1.0.7").labels == (("app", "web"),)
    assert findings(SERVICE + endpoints) == ["W L7FP307 11"]


def test_service_without_endpoints_is_told(policy: PolicyOf, findings: Findings) -> None:
    assert _addresses(policy(SERVICE)) == []
    assert findings(SERVICE) == ["W L7FP306 3"]


DESTINATION_RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %s, namespace: %s}
spec: %s
---
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}
---
"""
SUBSET = "outbound|80|v1|web.default.svc.cluster.local"


def test_subset_chooses_by_labels_and_overrides_settings(policy: PolicyOf) -> None:
    rule = DESTINATION_RULE % (
        "web",
        "default",
        """
  host: web
  trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 250ms}}}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}}
""",
    )
    second = (
        POD.replace("web-0", "web-1")
        .replace("version: v1", "version: v2")
        .replace("10.1.0.1", "10.1.0.2")
        .replace("1234", "5")
    )
    made = policy(SERVICE + POD + second + rule + ROUTE)
    subset = _cluster(made, SUBSET)
    assert [e.address for e in subset.endpoints] == ["10.1.0.1"]
    assert (subset.load_balancer, subset.connect_timeout_ms) == (LoadBalancer.LEAST_REQUEST, 250)


def test_port_level_settings_replace_the_others_whole(policy: PolicyOf) -> None:
    rule = DESTINATION_RULE % (
        "web",
        "default",
        """
  host: "*.default.svc.cluster.local"
  trafficPolicy:
    connectionPool: {tcp: {connectTimeout: 250ms}}
    portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
""",
    )
    cluster = _cluster(policy(SERVICE + POD + rule), "outbound|80||web.default.svc.cluster.local")
    assert (cluster.load_balancer, cluster.connect_timeout_ms) == (LoadBalancer.RANDOM, 10_000)


def test_rule_of_the_services_namespace_wins(policy: PolicyOf, findings: Findings) -> None:
    host = "web.default.svc.cluster.local"
    ours = DESTINATION_RULE % ("ours", "default", f"{{host: {host}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}")
    theirs = DESTINATION_RULE % ("theirs", "else", f"{{host: {host}, subsets: [{{name: v1, labels: {{no: one}}}}]}}")
    text = SERVICE + POD + theirs + ours + ROUTE
    assert len(_cluster(policy(text), SUBSET).endpoints) == 1
    assert [code.split()[:2] for code in findings(text)] == [["W", "L7FP312"]]


def test_service_entry_endpoints_have_their_own_ports_and_weights(policy: PolicyOf) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext}
spec:
  hosts: [API.example.com]
  addresses: [192.0.2.1, 192.0.2.2/32, 198.51.100.0/24]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 443, name: tls, protocol: TLS}]
  endpoints: [{address: 203.0.113.1}, {address: "fd00::2", ports: {http: 81}, weight: 3}]
"""
    made = policy(text)
    assert _addresses(made, "outbound|80||api.example.com") == [("203.0.113.1", 8080, ""), ("fd00::2", 81, "")]
    assert [e.weight for e in _cluster(made, "outbound|80||api.example.com").endpoints] == [1, 3]
    assert made.services[0].addresses == ("192.0.2.1", "192.0.2.2")
    assert made.services[0].ports == (80,)
    assert made.workloads == (), "what is outside of the mesh has no identity here"


def test_names_are_not_resolved(findings: Findings) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext}
spec: {hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ext}
spec: {hosts: [api.example.com], http: [{route: [{destination: {host: api.example.com}}]}]}
"""
    assert findings(text) == ["W L7FP314 5", "W L7FP314 10"]
    elsewhere = text.replace("hosts: [api.example.com], http", "hosts: [web], http")
    assert [code.split()[:2] for code in findings(SERVICE + POD + elsewhere)] == [["W", "L7FP314"], ["E", "L7FP314"]]
