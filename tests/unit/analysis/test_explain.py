"""Explanations as data."""

from __future__ import annotations

from l7fp.analysis.explain import explain, source_of
from l7fp.ir.interp import Request
from l7fp.ir.parser import parse_policy
from l7fp.ir.passes.classify import classify

POLICY = parse_policy(
    """
table 80 {
  virtual_host "v" {
    domains "a.b"
    rule "slow" @p.yaml:1:1-1:2 {
      match {
        path regex "/re.*"
      }
      respond 200 ""
    }
    rule "fast" {
      route {
        to "c" weight 3
        to "d" weight 1
      }
    }
  }
}
cluster "c" {
  endpoint "10.0.0.1" 80 workload "n/server"
}
cluster "d" {
  endpoint "10.0.0.2" 80
}
workload "n/client" {
  namespace "n"
  label "app" "client"
  addresses "10.0.0.9"
}
workload "n/server" {
  namespace "n"
  policies "n/token"
}
authz "n/token" DENY {
  rule {
    source {
      not request.principal present
      remote.ip cidr "10.9.0.0/16"
    }
  }
}
"""
)
PLACED = classify(POLICY)


def request(target: str, port: int = 80) -> Request:
    return Request(port=port, method="GET", target=target, authority="a.b")


def test_a_slow_rule_explains_itself() -> None:
    found = explain(POLICY, PLACED, request("/re/x"))
    assert not found.in_kernel
    assert [r.code for r in found.reasons] == ["regex"]
    assert found.decision.trail


def test_a_policy_that_guards_the_endpoint_counts() -> None:
    found = explain(POLICY, PLACED, request("/x"))
    assert found.decision.cluster == "c"
    assert found.shares == (("c", 3), ("d", 1))
    assert {r.code for r in found.reasons} == {"field"}


def test_a_path_that_must_be_normalised_and_an_unknown_port_count() -> None:
    assert "path-not-plain" in {r.code for r in explain(POLICY, PLACED, request("/re//x")).reasons}
    assert "port-unknown" in {r.code for r in explain(POLICY, PLACED, request("/x", port=81)).reasons}


def test_a_source_is_found_by_either_name() -> None:
    source = source_of(POLICY, "client")
    assert source is not None
    assert source == source_of(POLICY, "n/client")
    assert (source.namespace, source.ip, source.labels) == ("n", "10.0.0.9", (("app", "client"),))
    assert source_of(POLICY, "nobody") is None
