"""The interpreter's interface; what it decides is in the conformance corpus."""

from __future__ import annotations

from collections import Counter

import pytest

from l7fp.ir import edits
from l7fp.ir.interp import DecisionKind, Interpreter, Request, Source
from l7fp.ir.model import Cluster, Endpoint, HeaderEdits
from l7fp.ir.parser import parse_policy

POLICY = parse_policy(
    """
table 80 {
  virtual_host "v" @p.yaml:1:1-1:2 {
    domains "a.b"
    rule "post" @p.yaml:2:1-2:2 {
      match @p.yaml:3:1-3:2 {
        path prefix "/api"
        header "x-user" exact "jason" @p.yaml:4:1-4:2
      }
      respond 200 ""
    }
    rule "api" @p.yaml:5:1-5:2 {
      match @p.yaml:6:1-6:2 {
        path prefix "/api"
      }
      route {
        to "c" weight 3 @p.yaml:7:1-7:2
        to "d" weight 1
        rewrite_path prefix "/v1"
        timeout_ms 1500
        retry 2 {
          on "5xx"
        }
      }
    }
  }
}
cluster "c" {
  endpoint "10.0.0.1" 8080 workload "open"
  endpoint "10.0.0.2" 8080 workload "closed"
}
cluster "d" {
  endpoint "10.0.0.3" 8080
}
workload "closed" @w.yaml:1:1-1:2 {
  namespace "n"
  policies "n/allow" "n/deny"
}
workload "open" {
  namespace "n"
}
authz "n/allow" ALLOW @a.yaml:1:1-1:2 {
  rule {
    source {
      source.namespace exact "m"
    }
    operation {
      path prefix "/v1/x"
    }
  }
}
authz "n/deny" DENY {
  rule {
    operation {
      method exact "DELETE"
    }
  }
}
"""
)
INTERPRETER = Interpreter(POLICY)
REQUEST = Request(port=80, method="GET", target="/api/x", authority="a.b")
OPEN, CLOSED = POLICY.clusters[0].endpoints


def test_the_caller_may_choose_the_endpoint() -> None:
    assert INTERPRETER.decide(REQUEST, pick=lambda n: 0, endpoint=CLOSED).status == 403
    assert INTERPRETER.decide(REQUEST, pick=lambda n: 0, endpoint=OPEN).endpoint is OPEN


def test_the_caller_may_balance() -> None:
    asked: list[Cluster] = []

    def balance(cluster: Cluster) -> Endpoint | None:
        asked.append(cluster)
        return OPEN

    assert INTERPRETER.decide(REQUEST, pick=lambda n: 0, balance=balance).endpoint is OPEN
    assert [c.name for c in asked] == ["c"]
    assert INTERPRETER.decide(REQUEST, pick=lambda n: 0, balance=lambda _: None).code == "no_healthy_upstream"


def test_picks_are_asked_for_the_destination_then_the_endpoint() -> None:
    asked: list[int] = []
    INTERPRETER.decide(REQUEST, pick=lambda n: asked.append(n) or 0)  # type: ignore[func-returns-value]
    assert asked == [4, 2]


def test_shares_are_those_of_the_weights() -> None:
    shares = Counter(INTERPRETER.decide(REQUEST, pick=lambda n, i=i: i % n).cluster for i in range(400))
    assert shares == {"c": 300, "d": 100}
    drawn = Counter(INTERPRETER.decide(REQUEST).cluster for _ in range(4000))
    assert 2800 < drawn["c"] < 3200


def test_the_route_comes_with_the_decision() -> None:
    decision = INTERPRETER.decide(REQUEST, pick=lambda n: 3)
    assert decision.kind is DecisionKind.FORWARD
    assert decision.timeout_ms == 1500
    assert decision.retry is not None
    assert decision.retry.on == ("5xx",)
    assert (decision.virtual_host, decision.match_index, decision.cluster) == ("v", 0, "d")


def test_authorize_asks_the_policies_of_one_workload() -> None:
    m = Source(namespace="m")
    seen = Request(port=8080, method="GET", target="/v1/x", authority="a.b", source=m)
    assert INTERPRETER.authorize(seen, "closed") == (True, "n/allow")
    assert INTERPRETER.authorize(seen, "open") == (True, "")
    assert INTERPRETER.authorize(seen, "unheard of") == (True, "")
    denied = Request(port=8080, method="DELETE", target="/v1/x", authority="a.b", source=m)
    assert INTERPRETER.authorize(denied, "closed") == (False, "n/deny")


def test_a_request_that_needs_no_change_is_passed_on_as_it_is() -> None:
    request = Request(port=80, method="GET", target="/api", authority="a.b", headers=(("x-user", "jason"),))
    assert INTERPRETER.decide(request).request is request


def test_no_trail_is_made_unless_asked_for() -> None:
    assert INTERPRETER.decide(REQUEST).trail == ()


def test_the_trail_tells_the_whole_story() -> None:
    request = Request(
        port=80,
        method="GET",
        target="/./api/y",
        authority="a.b",
        source=Source(namespace="m"),
        destination_ip="10.9.9.9",
    )
    decision = INTERPRETER.decide(request, pick=lambda n: 1, trace=True)
    told = [(str(s.span).removesuffix(":1"), s.outcome, s.text) for s in decision.trail]
    assert told == [
        ("<built-in>:0:0", True, "path normalised (BASE): /./api/y becomes /api/y"),
        ("p.yaml:1", True, "virtual host v takes 'a.b' on port 80"),
        ("p.yaml:4", False, 'post wants header "x-user" exact "jason", but header "x-user" is absent'),
        ("p.yaml:6", True, "api holds"),
        ("p.yaml:7", True, "destination c by weight 3/4"),
        ("p.yaml:5", True, "path rewritten: /api/y becomes /v1/y"),
        ("<built-in>:0:0", True, "endpoint 10.0.0.2 port 8080 of closed"),
        (
            "<built-in>:0:0",
            False,
            'DENY policy n/deny does not hold: it wants method exact "DELETE", but method is "GET"',
        ),
        ("a.yaml:1", False, 'ALLOW policy n/allow does not hold: it wants path prefix "/v1/x", but path is "/v1/y"'),
        ("w.yaml:1", False, "closed denies it: no ALLOW policy holds"),
    ]


@pytest.mark.parametrize(
    ("request_", "last"),
    [
        (Request(port=81, method="GET", target="/", authority="a.b"), "no route table for port 81"),
        (Request(port=80, method="GET", target="/", authority="c"), "no virtual host of port 80 takes 'c'"),
        (Request(port=80, method="GET", target="/", authority="a.b"), "no rule of v holds"),
        (
            Request(port=80, method="GET", target="/%00", authority="a.b"),
            "'/%00' is not a path that BASE normalisation accepts",
        ),
    ],
)
def test_the_trail_ends_where_the_request_failed(request_: Request, last: str) -> None:
    step = INTERPRETER.decide(request_, trace=True).trail[-1]
    assert (step.text, step.outcome) == (last, False)


def test_large_virtual_hosts_decide_as_small_ones_do() -> None:
    rules = []
    for i in range(60):
        path = ("exact", "prefix", "suffix", "prefix nocase")[i % 4]
        rules.append(
            f'rule "r{i}" {{\nmatch {{\npath {path} "/{i // 4}"\n}}\n'
            f'match {{\nheader "x" exact "{i}"\n}}\nrespond 200 ""\n}}'
        )
    policy = parse_policy('table 80 {\nvirtual_host "v" {\ndomains "*"\n' + "\n".join(rules) + "\n}\n}")
    interpreter = Interpreter(policy)
    for path in ("/", "/1", "/10", "/1/2", "/x/3", "/14", "/2"):
        for header in ("", "0", "59", "2"):
            request = Request(port=80, method="GET", target=path, authority="a", headers=(("x", header),))
            traced = interpreter.decide(request, trace=True)  # the trail asks one rule after another
            held = [s.text.split(" ")[0] for s in traced.trail if s.text.endswith("holds") and s.outcome]
            assert held == ([traced.rule.name] if traced.rule else [])


def test_combined_edits_drop_what_later_ones_undo() -> None:
    first = HeaderEdits(set=(("a", "1"),), add=(("b", "1"),))
    assert edits.combine(first, HeaderEdits(remove=("a",), set=(("b", "2"),))) == HeaderEdits(
        remove=("a",), set=(("b", "2"),)
    )
    assert edits.combine() == edits.combine(HeaderEdits(), HeaderEdits()) == HeaderEdits()
