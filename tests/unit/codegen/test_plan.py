"""What a plan makes of a policy, run by the host library."""

from __future__ import annotations

import time

import pytest

from l7fp import abi
from l7fp.abi import Reason, Verdict
from l7fp.codegen import plan as plan_module
from l7fp.ir.model import (
    Cluster,
    Destination,
    DirectResponse,
    Endpoint,
    FieldKind,
    HeaderEdits,
    LoadBalancer,
    PathRewrite,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    RouteTable,
    StringKind,
    StringMatch,
    VirtualHost,
)
from tests.hostc import HostC, Result
from tests.unit.codegen.policies import (
    all_kernel,
    allow,
    contains,
    deny,
    exact,
    header,
    path,
    planned,
    policy,
    prefix,
    regex,
    rule,
    sample,
    say,
    to,
    when,
)


def ask(made: Policy | HostC, target: str = "/", *lines: str, host: str = "a.b", method: str = "GET") -> Result:
    library = made if isinstance(made, HostC) else HostC(all_kernel(made))
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", f"host: {host}", *lines, ""))
    return library.request(head.encode())


def test_first_match_wins_whatever_the_kind_of_matcher() -> None:
    made = HostC(
        all_kernel(
            policy(
                rule("a", say("a"), (path(exact("/x")),)),
                rule("b", say("b"), (path(prefix("/x")), header("x-v", exact("2")))),
                rule("c", say("c"), (path(StringMatch(StringKind.SUFFIX, ".png")),)),
                rule("d", say("d"), (path(prefix("/x")),)),
                rule("e", say("e"), (path(exact("/x/y.png")),)),
            )
        )
    )
    assert ask(made, "/x").rule_name == "a"
    assert ask(made, "/x", "X-V: 2").rule_name == "a"
    assert ask(made, "/xy", "X-V: 2").rule_name == "b"
    assert ask(made, "/xy", "X-V: 22").rule_name == "d"
    assert ask(made, "/x/y.png").rule_name == "c"
    assert ask(made, "/").rule_name == plan_module.NO_ROUTE


def test_conditions_of_one_match_on_one_header_all_count() -> None:
    made = policy(rule("a", say("a"), (header("x", prefix("ab")), header("x", StringMatch(StringKind.SUFFIX, "yz")))))
    assert ask(made, "/", "x: ab-yz").rule_name == "a"
    assert ask(made, "/", "x: ab").rule_name != "a"
    assert ask(made, "/", "x: yz").rule_name != "a"


def test_absent_header_fails_a_condition_and_holds_its_negation() -> None:
    made = policy(
        rule("no", say(""), (header("x", exact("1"), negate=True), header("y", StringMatch(StringKind.PRESENT)))),
        rule("yes", say(""), (header("x", exact("1")),)),
    )
    assert ask(made, "/", "y: q").rule_name == "no"
    assert ask(made, "/", "y: q", "x: 2").rule_name == "no"
    assert ask(made, "/", "y: q", "x: 1").rule_name == "yes"
    assert ask(made, "/").rule_name == plan_module.NO_ROUTE


def test_a_rule_that_the_kernel_cannot_read_diverts_and_hides_no_later_rule_too_much() -> None:
    made = policy(
        rule("slow", say("s"), (path(regex("/users/[0-9]+")), when(FieldKind.METHOD, exact("GET")))),
        rule("rest", say("r")),
    )
    plan = all_kernel(made)
    assert dict(plan.demoted).keys() == {"slow"}
    library = HostC(plan)
    assert ask(library, "/users/x").reason is Reason.RULE_SLOW  # may match, for all the kernel knows
    assert ask(library, "/other").rule_name == "rest"
    assert ask(library, "/users/1", method="POST").rule_name == "rest"


def test_classification_is_obeyed() -> None:
    made = policy(rule("r", say("s"), (path(regex("/x.*")),)), rule("rest", say("r")))
    assert planned(made).demoted == ()
    assert ask(HostC(planned(made)), "/x").verdict is Verdict.DIVERT


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("a.example", "exact"),
        ("A.EXAMPLE", "exact"),
        ("a.example:8080", "port"),
        ("a.example:99", "exact"),
        ("b.example", "suffix"),
        ("b.example:99", "suffix"),
        ("c.b.example", "long"),
        ("x.y", "any"),
    ],
)
def test_virtual_host_is_chosen_as_envoy_does(host: str, found: str) -> None:
    domains = {"exact": "a.example", "port": "a.example:8080", "suffix": "*.example", "long": "*.b.example", "any": "*"}
    hosts = tuple(
        VirtualHost(name=name, domains=(domain,), rules=(rule(name, say("")),)) for name, domain in domains.items()
    )
    made = Policy(tables=(RouteTable(port=80, virtual_hosts=hosts),))
    assert ask(made, host=host).rule_name == found


def test_unclaimed_hosts_and_ports_divert() -> None:
    made = policy(rule("r", say("")), domains=("a.b",))
    assert ask(made, host="c").reason is Reason.UNKNOWN_HOST
    assert (
        HostC(all_kernel(made)).request(b"GET / HTTP/1.1\r\nhost: a.b\r\n\r\n", port=81).reason is Reason.UNKNOWN_PORT
    )


def test_weights_share_out_the_whole_range() -> None:
    made = policy(rule("r", Route(destinations=tuple(Destination(cluster="one", weight=w) for w in (1, 0, 3)))))
    plan = all_kernel(made)
    library = HostC(plan)
    head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    positions = [library.request(head, random=(n << 29)).dest for n in range(8)]
    assert [plan.dests[d].position for d in positions if d is not None] == [0, 0, 2, 2, 2, 2, 2, 2]
    assert library.request(head, random=2**32 - 1).dest == 1


def test_weights_that_no_table_holds_go_slow() -> None:
    route = Route(destinations=tuple(Destination(cluster="one", weight=2**31 - 1) for _ in range(3)))
    plan = all_kernel(policy(rule("r", route), rule("s", say("s"), (path(exact("/s")),))))
    assert [name for name, _ in plan.demoted] == ["r"]
    assert HostC(plan).request(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").reason is Reason.RULE_SLOW


def test_prefix_rewrites_keep_the_rest_and_the_query() -> None:
    route = Route(
        destinations=(Destination(cluster="one"),), path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/v2")
    )
    made = policy(rule("r", route, (path(prefix("/api")),), (path(exact("/exactly")),)))
    assert ask(made, "/api/x?q=1").data.startswith(b"GET /v2/x?q=1 HTTP/1.1\r\n")
    assert ask(made, "/exactly?q").data.startswith(b"GET /v2?q HTTP/1.1\r\n")


def test_a_rewrite_whose_outcome_needs_normalisation_diverts() -> None:
    route = Route(
        destinations=(Destination(cluster="one"),), path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/")
    )
    made = policy(rule("r", route, (path(prefix("/api")),)))
    assert ask(made, "/api../secret").reason is Reason.RULE_SLOW
    assert ask(made, "/apix").data.startswith(b"GET /x HTTP/1.1")
    odd = PathRewrite(kind=RewriteKind.FULL, value="/a//b")
    assert dict(all_kernel(policy(rule("r", Route(destinations=route.destinations, path_rewrite=odd)))).demoted)


def test_header_edits_of_destination_and_route_are_one_edit() -> None:
    route = Route(
        destinations=(
            Destination(cluster="one", request_headers=HeaderEdits(set=(("x-a", "dest"),), add=(("x-b", "dest"),))),
        ),
        request_headers=HeaderEdits(remove=("x-b", "x-gone"), set=(("x-c", "route"),), add=(("x-a", "route"),)),
    )
    out = ask(policy(rule("r", route)), "/", "x-a: old", "x-b: old", "x-gone: 1", "x-c: old", "keep: 1").data
    lines = out.decode().split("\r\n")[1:-2]
    assert sorted(lines) == ["host: a.b", "keep: 1", "x-a: dest", "x-a: route", "x-c: route"]
    assert lines.index("x-a: dest") < lines.index("x-a: route")


def test_framing_headers_are_never_edited_in_the_kernel() -> None:
    for name in ("content-length", "transfer-encoding", "connection", "host", "upgrade"):
        route = Route(destinations=(Destination(cluster="one"),), request_headers=HeaderEdits(remove=(name,)))
        assert dict(all_kernel(policy(rule("r", route))).demoted), name


def test_a_header_with_a_line_end_never_reaches_the_kernel() -> None:
    edit = HeaderEdits(add=(("x", "a\r\ny: b"),))
    route = Route(destinations=(Destination(cluster="one"),), request_headers=edit)
    plan = all_kernel(policy(rule("r", route)))
    assert dict(plan.demoted)
    assert b"y: b" not in plan.tables["blob"]


def test_redirect_is_composed_of_request_parts() -> None:
    made = policy(
        rule("p", Redirect(status=302, prefix_rewrite="/new"), (path(prefix("/old")),)),
        rule("h", Redirect(scheme="https", authority="b.c", port=8443), (path(exact("/h")),)),
        rule("s", Redirect(scheme="https"), (path(exact("/s")),)),
        rule("q", Redirect(path="/to?own=1"), (path(exact("/q")),)),
    )
    assert b"\r\nlocation: http://a.b/new/x?y=1\r\n" in ask(made, "/old/x?y=1").data
    assert b"\r\nlocation: https://b.c:8443/h\r\n" in ask(made, "/h").data
    assert b"\r\nlocation: https://a.b/s\r\n" in ask(made, "/s").data
    assert ask(made, "/s", host="a.b:80").verdict is Verdict.DIVERT  # the port would have to go
    assert b"\r\nlocation: http://a.b/to?own=1\r\n" in ask(made, "/q?z=2").data


def test_a_reply_to_head_has_no_body_and_says_its_length() -> None:
    made = policy(rule("r", say("hello")))
    assert ask(made, "/", method="HEAD").data.endswith(b"content-length: 5\r\nserver: l7fp\r\n\r\n")
    assert ask(made, "/").data.endswith(b"\r\n\r\nhello")


def test_status_without_content_has_no_length() -> None:
    assert b"content-length" not in ask(policy(rule("r", say("", 204)))).data


def test_too_long_a_reply_is_for_the_slow_path() -> None:
    plan = all_kernel(policy(rule("r", say("x" * 5000))))
    assert ask(HostC(plan)).verdict is Verdict.DIVERT
    assert "longer than 4096" in dict(plan.demoted)["r"]


def test_denial_beats_permission_and_the_rest_is_denied() -> None:
    made = policy(
        rule("r", to("one")),
        authz=(allow("p/allow", (path(prefix("/ok")),)), deny("p/deny", (path(exact("/ok/no")),))),
    )
    assert ask(made, "/ok/yes").verdict is Verdict.FORWARD
    denied = ask(made, "/ok/no")
    assert denied.verdict is Verdict.REPLY
    assert denied.data.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert denied.data.endswith(b"RBAC: access denied")
    assert ask(made, "/other").verdict is Verdict.REPLY


def test_what_only_the_slow_path_reads_never_allows_nor_denies() -> None:
    made = policy(
        rule("r", to("one")),
        authz=(
            deny("p/certain", (path(exact("/never")),)),
            deny("p/unsure", (path(regex("/x[0-9]+")),)),
            allow("p/allow", (path(prefix("/")),)),
        ),
    )
    assert ask(made, "/x1").reason is Reason.AUTHZ_SLOW
    assert ask(made, "/never").verdict is Verdict.REPLY
    assert ask(made, "/ok").verdict is Verdict.FORWARD


def test_authorization_sees_the_edited_request() -> None:
    route = Route(
        destinations=(Destination(cluster="one"),),
        path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/v2"),
        authority_rewrite="in.side",
        request_headers=HeaderEdits(set=(("x-role", "user"),)),
    )
    guards = (
        deny("p/path", (path(prefix("/v2/admin")),)),
        deny("p/old", (path(prefix("/api/fine")),)),
        deny("p/host", (when(FieldKind.AUTHORITY, exact("a.b")),)),
        deny("p/role", (header("x-role", exact("admin")),)),
    )
    made = policy(rule("r", route, (path(prefix("/api")),)), authz=guards)
    assert ask(made, "/api/admin").verdict is Verdict.REPLY
    assert ask(made, "/api/fine", "x-role: admin").verdict is Verdict.FORWARD


def test_endpoints_repeat_by_weight() -> None:
    endpoints = tuple(Endpoint(address=f"10.0.0.{n}", port=80, weight=w) for n, w in ((1, 100), (2, 300)))
    made = policy(rule("r", to("c")))
    made = Policy(tables=made.tables, clusters=(Cluster(name="c", host="c", port=80, endpoints=endpoints),))
    assert [e.address[-1] for e in all_kernel(made).endpoints] == ["1", "2", "2", "2"]


def test_least_request_is_for_the_slow_path() -> None:
    made = policy(rule("r", to("c")))
    cluster = Cluster(name="c", host="c", port=80, load_balancer=LoadBalancer.LEAST_REQUEST)
    assert "least-request" in dict(all_kernel(Policy(tables=made.tables, clusters=(cluster,))).demoted)["r"]


def test_excess_matchers_of_one_header_demote_only_their_rules() -> None:
    rules = [rule(f"r{n}", say(""), (header("x", exact(str(n))),)) for n in range(70)]
    plan = all_kernel(policy(*rules))
    assert [name for name, _ in plan.demoted] == [f"r{n}" for n in range(63, 70)]
    assert ask(HostC(plan), "/", "x: 5").rule_name == "r5"
    assert ask(HostC(plan), "/", "x: 66").verdict is Verdict.DIVERT


def test_excess_fields_demote_only_their_rules() -> None:
    rules = [rule(f"r{n}", say(""), (header(f"x-{n}", exact("1")),)) for n in range(40)]
    plan = all_kernel(policy(*rules))
    assert len(plan.demoted) == 40 - (abi.MAX_BITS - abi.Bits.FIRST_NAMED)
    assert plan.n_bits == abi.MAX_BITS


def test_exploding_path_patterns_divert_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_VHOST_STATES", 300)
    bad = [rule(f"bad{n}", say(""), (path(contains(f"{n:02}")), header("h", exact("1")))) for n in range(20)]
    plan = all_kernel(policy(*bad, rule("good", say("g"), (path(exact("/good")),))))
    assert {name for name, _ in plan.demoted} == {f"bad{n}" for n in range(20)}
    library = HostC(plan)
    assert ask(library, "/good").rule_name == "good"
    assert ask(library, "/13", "h: 1").verdict is Verdict.DIVERT


def test_exploding_header_patterns_make_the_header_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [rule(f"r{n}", say(""), (header("x", contains(f"{n:02}")),)) for n in range(30)]
    monkeypatch.setattr("l7fp.codegen.tables.Tables.automaton.__kwdefaults__", {"decisive": 0, "max_states": 400})
    plan = all_kernel(policy(*rules, rule("last", say(""))))
    assert len(plan.demoted) == 30
    assert ask(HostC(plan)).verdict is Verdict.DIVERT


def test_no_table_is_empty_and_plans_are_equal_for_equal_policies() -> None:
    one, two = planned(sample()), planned(sample())
    assert one == two
    for table in abi.TABLES:
        assert one.tables[table.name], table.name
    empty = planned(Policy())
    assert all(empty.tables[table.name] for table in abi.TABLES)


def test_a_thousand_routes_plan_in_a_second() -> None:
    rules = [
        rule(f"r{n}", to("one"), (path(exact(f"/svc-{n}/exact")),), (path(prefix(f"/svc-{n}/")),)) for n in range(1000)
    ]
    made = policy(*rules)
    began = time.process_time()
    plan = all_kernel(made)
    assert time.process_time() - began < 1.5
    assert ask(HostC(plan), "/svc-777/x").rule_name == "r777"


def test_direct_response_that_shows_its_url() -> None:
    made = policy(rule("r", DirectResponse(status=201)))
    assert b"\r\nlocation: http://a.b/x?y\r\n" in ask(made, "/x?y").data
