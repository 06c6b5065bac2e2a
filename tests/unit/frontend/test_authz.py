"""AuthorizationPolicies: whom they guard and what they decide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from l7fp.ir.interp import Decision
from l7fp.ir.model import AuthzAction, Policy
from l7fp.ir.request import Source

PolicyOf = Callable[[str], Policy]
Asked = Callable[..., Decision]
Findings = Callable[[str], list[str]]

TELLER = Source(workload="front/teller", namespace="front", principal="cluster.local/ns/front/sa/teller", ip="10.2.3.4")


def _policy(spec: str, name: str = "p", namespace: str = "default") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


@pytest.mark.parametrize(
    ("rule", "request_", "holds"),
    [
        ("{to: [{operation: {methods: [GET]}}]}", {}, True),
        ("{to: [{operation: {methods: ['P*']}}]}", {"method": "PUT"}, True),
        ("{to: [{operation: {notMethods: [GET]}}]}", {}, False),
        ("{to: [{operation: {paths: [/a]}}]}", {"target": "/a?q"}, True),
        ("{to: [{operation: {paths: [/a]}}]}", {"target": "/a/"}, False),
        ("{to: [{operation: {paths: ['/a*']}}]}", {"target": "/ab"}, True),
        ("{to: [{operation: {paths: ['*.css']}}]}", {"target": "/x/y.css"}, True),
        ("{to: [{operation: {paths: ['*']}}]}", {"target": "/"}, True),
        ("{to: [{operation: {paths: ['/a/{*}/c']}}]}", {"target": "/a/b/c"}, True),
        ("{to: [{operation: {paths: ['/a/{*}/c']}}]}", {"target": "/a/b/b/c"}, False),
        ("{to: [{operation: {paths: ['/a/{**}']}}]}", {"target": "/a/b/c"}, True),
        ("{to: [{operation: {paths: ['/a*'], notPaths: [/ab]}}]}", {"target": "/ab"}, False),
        ("{to: [{operation: {hosts: [WEB]}}]}", {}, True),
        ("{to: [{operation: {hosts: ['web*']}}]}", {"authority": "Web:80"}, True),
        ("{to: [{operation: {hosts: ['*.svc']}}]}", {"authority": "web.default.svc:80"}, False),
        ("{to: [{operation: {ports: ['80']}}]}", {}, True),
        ("{to: [{operation: {ports: ['81']}}]}", {}, False),
        ("{from: [{source: {principals: [cluster.local/ns/front/sa/teller]}}]}", {"source": TELLER}, True),
        ("{from: [{source: {principals: ['*/teller']}}]}", {"source": TELLER}, True),
        ("{from: [{source: {principals: ['*']}}]}", {"source": TELLER}, True),
        ("{from: [{source: {principals: ['*']}}]}", {}, False),
        ("{from: [{source: {notPrincipals: ['*']}}]}", {}, True),
        ("{from: [{source: {namespaces: ['fr*']}}]}", {"source": TELLER}, True),
        ("{from: [{source: {notNamespaces: [front]}}]}", {"source": TELLER}, False),
        ("{from: [{source: {serviceAccounts: [front/teller]}}]}", {"source": TELLER}, True),
        ("{from: [{source: {serviceAccounts: [teller]}}]}", {"source": TELLER}, False),
        ("{from: [{source: {trustDomains: [cluster.local]}}]}", {"source": TELLER}, True),
        ("{from: [{source: {trustDomains: ['*.local']}}]}", {"source": TELLER}, True),
        ("{from: [{source: {notTrustDomains: ['clus*']}}]}", {"source": TELLER}, False),
        ("{from: [{source: {ipBlocks: [10.2.0.0/16]}}]}", {"source": TELLER}, True),
        ("{from: [{source: {ipBlocks: ['::ffff:10.2.3.4']}}]}", {"source": TELLER}, True),
        ("{from: [{source: {notIpBlocks: [10.2.3.4]}}]}", {"source": TELLER}, False),
        ("{from: [{source: {namespaces: [x]}}, {source: {namespaces: [front]}}]}", {"source": TELLER}, True),
        ("{from: [{source: {requestPrincipals: ['*']}}]}", {"source": TELLER}, False),
        ("{from: [{source: {notRequestPrincipals: ['*']}}]}", {"source": TELLER}, True),
        ("{when: [{key: 'request.headers[X-A]', values: [b]}]}", {"headers": (("x-a", "b"),)}, True),
        ("{when: [{key: 'request.headers[x-a]', values: ['*']}]}", {}, False),
        ("{when: [{key: 'request.headers[x-a]', notValues: [b]}]}", {}, True),
        ("{when: [{key: 'request.headers[:method]', values: [GET]}]}", {}, True),
        ("{when: [{key: source.ip, values: [10.0.0.0/8], notValues: [10.2.3.4]}]}", {"source": TELLER}, False),
        ("{when: [{key: source.principal, values: ['*/teller']}]}", {"source": TELLER}, True),
        ("{when: [{key: source.serviceAccount, values: [front/teller]}]}", {"source": TELLER}, True),
        ("{when: [{key: destination.port, values: ['80']}]}", {}, True),
        ("{when: [{key: destination.ip, values: [10.1.0.0/16]}]}", {}, True),
        ("{when: [{key: 'request.auth.claims[sub]', values: [x]}]}", {}, False),
        ("{when: [{key: request.auth.audiences, notValues: [x]}]}", {}, True),
        ("{}", {}, True),
    ],
)
def test_rule_in_allow_and_in_deny(
    policy: PolicyOf, asked: Asked, web: str, rule: str, request_: dict[str, object], holds: bool
) -> None:
    allowed = asked(policy(web + _policy(f"{{action: ALLOW, rules: [{rule}]}}")), **request_)
    denied = asked(policy(web + _policy(f"{{action: DENY, rules: [{rule}]}}")), **request_)
    assert (allowed.status, denied.status) == ((0, 403) if holds else (403, 0))


def test_allow_without_rules_denies_all_and_audit_changes_nothing(policy: PolicyOf, asked: Asked, web: str) -> None:
    assert asked(policy(web + _policy("{}"))).status == 403
    assert asked(policy(web + _policy("{action: AUDIT, rules: [{}]}"))).status == 0
    assert asked(policy(web + _policy("{action: ALLOW, rules: [{}]}"))).status == 0


def test_dry_run_changes_nothing(policy: PolicyOf, web: str, findings: Findings) -> None:
    text = web + _policy("{}").replace("{name: p", '{annotations: {istio.io/dry-run: "true"}, name: p')
    assert policy(text).authz[0].action is AuthzAction.AUDIT
    assert [code.split()[1] for code in findings(text)] == ["L7FP412"]


def test_policies_guard_by_namespace_selector_and_root_namespace(policy: PolicyOf, web: str) -> None:
    other = """
apiVersion: v1
kind: Pod
metadata: {name: x, namespace: other, labels: {app: web}}
---
"""
    text = web + other
    text += _policy("{rules: [{}]}", "z-all")
    text += _policy("{selector: {matchLabels: {version: v1}}, rules: [{}]}", "a-v1")
    text += _policy("{rules: [{}]}", "everywhere", "istio-system")
    text += _policy("{selector: {matchLabels: {version: v2}}, rules: [{}]}", "all-v2", "istio-system")
    guards = {workload.name: workload.policies for workload in policy(text).workloads}
    assert guards == {
        "default/web-1": ("default/a-v1", "default/z-all", "istio-system/everywhere"),
        "default/web-2": ("default/z-all", "istio-system/all-v2", "istio-system/everywhere"),
        "other/x": ("istio-system/everywhere",),
    }


OPAQUE = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.0.0.9, selector: {app: db}, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
status: {podIP: 10.1.0.9}
---
"""


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        ("{rules: [{}]}", True),
        ("{rules: [{to: [{operation: {ports: ['80']}}]}]}", True),
        ("{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}", True),
        ("{action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}", False),
        ("{action: DENY, rules: [{to: [{operation: {methods: [GET], notPorts: ['5432']}}]}]}", False),
        ("{action: AUDIT, rules: [{}]}", False),
    ],
)
def test_policy_that_would_hold_on_a_port_which_passes_untouched_is_refused(
    findings: Findings, spec: str, refused: bool
) -> None:
    assert any(code.startswith("E L7FP410") for code in findings(OPAQUE + _policy(spec))) is refused
