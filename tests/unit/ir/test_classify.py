"""Every reason for the slow path, and what just escapes it."""

from __future__ import annotations

import pytest

from l7fp.ir.parser import parse_policy
from l7fp.ir.passes.classify import REASONS, Kernel, Placement, Slow, classify
from l7fp.source import Span

TEMPLATE = """
table 80 {
  virtual_host "v" {
    domains "a.b"
    rule "r" @p.yaml:3:1-9:1 {
      MATCH
      ACTION
    }
  }
}
cluster "c" {
  endpoint "10.0.0.1" 80
  endpoint "10.0.0.2" 80
}
cluster "heavy" {
  endpoint "10.0.0.1" 80 weight 1
  endpoint "10.0.0.2" 80 weight 1000
}
cluster "least" {
  load_balancer least_request
  endpoint "10.0.0.1" 80
}
cluster "mixed" {
  endpoint "10.0.0.1" 80 workload "guarded"
  endpoint "10.0.0.2" 80
}
cluster "named" {
  endpoint "some.name" 80
}
cluster "ports" {
  endpoint "10.0.0.1" 80 workload "guarded"
  endpoint "10.0.0.1" 81 workload "guarded"
}
workload "guarded" {
  namespace "n"
  policies "n/port"
}
authz "n/port" DENY {
  rule {
    operation {
      destination.port port 80
    }
  }
}
"""
TO_C = 'route {\nto "c"\n}'


def place(match: str = "", action: str = TO_C) -> Placement:
    match = f"match {{\n{match}\n}}" if match else ""
    return classify(parse_policy(TEMPLATE.replace("MATCH", match).replace("ACTION", action))).rules["r"]


def codes(placement: Placement) -> set[str]:
    return {reason.code for reason in placement.reasons} if isinstance(placement, Slow) else set()


def route(*lines: str, to: str = "c") -> str:
    return "\n".join(["route {", f'to "{to}"', *lines, "}"])


def edits(direction: str, count: int) -> str:
    return f"{direction} {{\n" + "".join(f'set "x-{i}" "v"\n' for i in range(count)) + "}"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ('path regex "/a"', "regex"),
        ('header "x" regex "a"', "regex"),
        ('authority regex "a"', "regex"),
        ('header "x" contains "a"', "matcher"),
        ('query "x" suffix "a"', "matcher"),
        ('remote.ip cidr "10.0.0.0/8"', "field"),
        ('scheme exact "http"', "field"),
        ("request.principal present", "field"),
        ('destination.ip cidr "10.0.0.0/8"', "field"),
        ('connection.sni exact "a"', "field"),
        ('not remote.ip cidr "10.0.0.0/8"', "field"),
    ],
)
def test_conditions_the_kernel_cannot_read(match: str, expected: str) -> None:
    assert codes(place(match)) == {expected}


@pytest.mark.parametrize(
    "match",
    [
        'path exact "/a" | prefix nocase "/b" | suffix "c" | contains "d" | template "/{*}/{**}"',
        'method exact "GET"',
        'authority suffix nocase ".b"',
        'header "x" exact "a" | prefix "b" | suffix "c" | present',
        'not header "x" present',
        'query "q" exact "1" | prefix "2" | present',
        'source.ip cidr "10.0.0.0/8"',
        'source.principal regex "cluster.*"',
        'source.namespace exact "n"',
        'source.label "app" contains "a"',
        "destination.port port 80",
    ],
)
def test_conditions_the_kernel_reads(match: str) -> None:
    assert place(match) == Kernel()


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (route(to="least"), "least-request"),
        (route(to="named"), "endpoint-name"),
        (route(to="heavy"), "endpoint-weights"),
        (route(to="mixed"), "mixed-authorization"),
        (route(to="ports"), "mixed-ports"),
        (route(to="unknown"), "unknown-cluster"),
        ('route {\nto "c" weight 0\n}', "no-destination"),
        ('route {\nto "c" weight 4294967295\nto "c" weight 1\n}', "weights"),
        (route('rewrite_path regex "/" regex_pattern "a"'), "regex-rewrite"),
        (route('rewrite_path full "/a%20b"'), "rewrite-not-plain"),
        (route(edits("request", 9)), "header-edits"),
        (route(edits("response", 9)), "header-edits"),
        (route('request {\nset "connection" "close"\n}'), "header-framing"),
        (route('response {\nremove "content-length"\n}'), "header-framing"),
        (route('request {\nset "x" "%REQ(y)%"\n}'), "header-variable"),
        (route('retry 2 {\non "5xx" "connect-failure"\n}'), "retry"),
        (route('retry 2 {\non "retriable-status-codes"\nstatus_codes 503\n}'), "retry"),
        (route("retry 0 {\nper_try_timeout_ms 10\n}"), "per-try-timeout"),
        (f'respond 200 "{"x" * 4096}"', "reply-too-large"),
        ('respond 200 "" {\n' + edits("response", 9) + "\n}", "header-edits"),
    ],
)
def test_actions_of_the_slow_path(action: str, expected: str) -> None:
    assert codes(place(action=action)) == {expected}


@pytest.mark.parametrize(
    "action",
    [
        route(edits("request", 8), edits("response", 8)),
        route('rewrite_path full "/a"', 'rewrite_authority "x"', "timeout_ms 10"),
        route('retry 2 {\non "cancelled" "connect-failure" "refused-stream" "retriable-status-codes" "unavailable"\n}'),
        route("timeout_ms 10", "retry 0 {\nper_try_timeout_ms 10\n}"),
        f'respond 200 "{"x" * 3900}"',
        'redirect 301 {\nscheme "https"\n}',
    ],
)
def test_actions_of_the_kernel(action: str) -> None:
    assert place(action=action) == Kernel()


@pytest.mark.parametrize(
    ("match", "slow"),
    [
        ("", False),
        ('path prefix "/a"', False),
        ('path exact "/a"', False),
        ('path suffix "/a"', True),
        ('path prefix "/a" | prefix "/bb"', True),
        ('path prefix "/a"\npath suffix "b"', True),
        ('path prefix "/a"\nnot path suffix "b"', False),
    ],
)
def test_a_prefix_rewrite_needs_one_known_prefix(match: str, slow: bool) -> None:
    expected = {"rewrite-prefix"} if slow else set()
    assert codes(place(match, route('rewrite_path prefix "/n"'))) == expected
    assert codes(place(match, 'redirect 301 {\nprefix_rewrite "/n"\n}')) == expected


def test_a_word_of_matchers_is_full_at_64() -> None:
    values = " | ".join(f'exact "v{i}"' for i in range(64))
    assert place(f'header "x" {values}') == Kernel()
    assert codes(place(f'header "x" {values} | exact "one more"')) == {"matchers"}
    assert place(f'path {" | ".join(f"""exact "/v{i}" """ for i in range(100))}') == Kernel()


def test_earlier_rules_get_the_words_of_named_fields() -> None:
    rules = "".join(f'rule "r{i}" {{\nmatch {{\nheader "x-{i}" present\n}}\n{TO_C}\n}}\n' for i in range(29))
    text = TEMPLATE.replace("MATCH", "").replace("ACTION", TO_C).replace('domains "a.b"', f'domains "a.b"\n{rules}')
    placed = classify(parse_policy(text)).rules
    assert [codes(placed[f"r{i}"]) for i in (0, 26, 27, 28)] == [set(), set(), {"named-fields"}, {"named-fields"}]


def test_a_reason_has_the_place_of_what_caused_it() -> None:
    placed = place('path regex "/a" @p.yaml:5:7-5:12')
    assert isinstance(placed, Slow)
    assert placed.reasons[0].span == Span("p.yaml", 5, 7, 5, 12)
    whole = place(action=route(to="least"))
    assert isinstance(whole, Slow)
    assert whole.reasons[0].span == Span("p.yaml", 3, 1, 9, 1)


def test_every_reason_that_applies_is_given_once() -> None:
    assert codes(place('path regex "/a"\nheader "x" regex "b"', route(to="least"))) == {"regex", "least-request"}


def authz(text: str) -> Placement:
    whole = TEMPLATE.replace("MATCH", "").replace("ACTION", TO_C) + text
    return classify(parse_policy(whole)).authz["n/q"]


def test_authorization_policies_are_placed_too() -> None:
    assert authz('authz "n/q" DENY {\nrule {\noperation {\npath prefix "/a"\n}\n}\n}') == Kernel()
    assert codes(authz('authz "n/q" ALLOW {\nrule {\nsource {\nrequest.principal present\n}\n}\n}')) == {"field"}
    assert codes(authz('authz "n/q" ALLOW {\nrule {\nwhen {\nheader "x" regex "a"\n}\n}\n}')) == {"regex"}


def test_audit_costs_nothing() -> None:
    assert authz('authz "n/q" AUDIT {\nrule {\nsource {\nrequest.principal present\n}\n}\n}') == Kernel()


def test_every_hint_says_what_would_help() -> None:
    assert all(message and hint for message, hint in REASONS.values())
