"""Policies from small texts, and what they decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from l7fp.diagnostics import Severity
from l7fp.frontend import load_text
from l7fp.ir.interp import Decision, Interpreter
from l7fp.ir.model import Policy
from l7fp.ir.request import Request, Source
from l7fp.ir.verify import verify

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: http-alt, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web, version: v1}}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web, version: v2}}
status: {podIP: 10.1.0.2}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
"""
"""A service of two versions on two ports, ready for more documents."""

ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
"""


def policy_of(text: str) -> Policy:
    """The policy of a text without errors; its invariants hold."""
    loaded = load_text(text)
    assert loaded.policy is not None, [str(item) for item in loaded.diagnostics]
    assert verify(loaded.policy) == []
    return loaded.policy


def decide(policy: Policy, target: str = "/", **request: object) -> Decision:
    """The decision on a request to `web` on port 80, changed by `request`; always the first choice."""
    source = request.pop("source", Source())
    asked = Request(port=80, method="GET", target=target, authority="web", source=source)  # type: ignore[arg-type]
    return Interpreter(policy).decide(replace(asked, **request), pick=lambda n: 0)  # type: ignore[arg-type]


@pytest.fixture
def routed() -> Callable[..., Decision]:
    """`routed(http_yaml, target, **request)`: the decision of a VirtualService with these `http` items."""

    def route(http: str, target: str = "/", **request: object) -> Decision:
        return decide(policy_of(WEB + ROUTES + http), target, **request)

    return route


@pytest.fixture
def policy() -> Callable[[str], Policy]:
    """`policy(text)`: policy of the text."""
    return policy_of


@pytest.fixture
def web() -> str:
    return WEB


@pytest.fixture
def asked() -> Callable[..., Decision]:
    """`asked(policy, target, **request)`: the decision."""
    return decide


@pytest.fixture
def findings() -> Callable[[str], list[str]]:
    """`findings(text)`: `E L7FP301 line` for each finding, E, W or I."""

    def find(text: str) -> list[str]:
        found = load_text(text).diagnostics.sorted()
        letters = {Severity.ERROR: "E", Severity.WARNING: "W", Severity.INFO: "I"}
        return [f"{letters[item.severity]} {item.code} {item.span.line}" for item in found]

    return find
