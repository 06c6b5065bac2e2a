"""VirtualService routes: what they match and do, decided by the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from l7fp.ir.interp import Decision, DecisionKind
from l7fp.ir.model import HeaderEdits, RetryPolicy
from l7fp.ir.request import Source

Routed = Callable[..., Decision]

TO_V2 = """
  - match: [%s]
    route: [{destination: {host: web, subset: v2, port: {number: 80}}}]
  - route: [{destination: {host: web, subset: v1, port: {number: 80}}}]
"""


@pytest.mark.parametrize(
    ("match", "target", "holds"),
    [
        ("{uri: {exact: /a}}", "/a", True),
        ("{uri: {exact: /a}}", "/a?q", True),
        ("{uri: {exact: /a}}", "/a/", False),
        ("{uri: {prefix: /foo}}", "/foobar", True),
        ("{uri: {prefix: /foo}}", "/Foo", False),
        ("{uri: {prefix: ''}}", "/anything", True),
        ("{uri: {prefix: /foo}, ignoreUriCase: true}", "/FOObar", True),
        ("{uri: {exact: /foo}, ignoreUriCase: true}", "/fOO", True),
        ("{uri: {regex: '/v[0-9]+'}}", "/v12", True),
        ("{uri: {regex: '/v[0-9]+'}}", "/v12x", False),
        ("{uri: {regex: '/v'}, ignoreUriCase: true}", "/V", False),
        ("{queryParams: {p: {exact: '1'}}}", "/?p=1", True),
        ("{queryParams: {p: {exact: ''}}}", "/?p", True),
        ("{queryParams: {p: {prefix: ab}}}", "/?x=1&p=abc", True),
        ("{queryParams: {p: {}}}", "/?p=z", True),
        ("{queryParams: {p: {}}}", "/?q=z", False),
        ("{uri: {prefix: /a}, queryParams: {p: {}}}", "/b?p=1", False),
    ],
)
def test_path_and_query(routed: Routed, match: str, target: str, holds: bool) -> None:
    assert ("|v2|" in routed(TO_V2 % match, target).cluster) is holds


@pytest.mark.parametrize(
    ("match", "headers", "holds"),
    [
        ("{headers: {x-a: {exact: b}}}", (("x-a", "b"),), True),
        ("{headers: {X-A: {prefix: b}}}", (("x-a", "bc"),), True),
        ("{headers: {x-a: {regex: b+}}}", (("x-a", "bbb"),), True),
        ("{headers: {x-a: {}}}", (("x-a", ""),), True),
        ("{headers: {x-a: {}}}", (), False),
        ("{headers: {x-a: {exact: b}, x-c: {}}}", (("x-a", "b"),), False),
        ("{withoutHeaders: {x-a: {}}}", (), True),
        ("{withoutHeaders: {x-a: {}}}", (("x-a", "b"),), False),
        ("{withoutHeaders: {x-a: {exact: b}}}", (("x-a", "c"),), True),
        ("{withoutHeaders: {x-a: {exact: b}}}", (), True),
        # Envoy takes an absent header for an empty one in this place
        ("{withoutHeaders: {x-a: {regex: 'b*'}}}", (), False),
        ("{withoutHeaders: {x-a: {regex: 'b*'}}}", (("x-a", "c"),), True),
        ("{withoutHeaders: {x-a: {regex: 'b+'}}}", (), True),
    ],
)
def test_headers(routed: Routed, match: str, headers: tuple[tuple[str, str], ...], holds: bool) -> None:
    assert ("|v2|" in routed(TO_V2 % match, headers=headers).cluster) is holds


@pytest.mark.parametrize(
    ("match", "request_", "holds"),
    [
        ("{method: {exact: POST}}", {"method": "POST"}, True),
        ("{method: {prefix: P}}", {"method": "PUT"}, True),
        ("{headers: {':method': {exact: GET}}}", {"method": "POST"}, False),
        ("{authority: {exact: web}}", {}, True),
        ("{authority: {prefix: 'web:'}}", {"authority": "web:80"}, True),
        ("{headers: {':authority': {exact: web}}}", {}, True),
        ("{headers: {Host: {exact: web}}}", {}, True),
        ("{scheme: {exact: https}}", {}, False),
        ("{port: 80}", {}, True),
        ("{port: 81}", {}, False),
        ("{port: 81}", {"port": 81}, True),
        ("{gateways: [mesh]}", {}, True),
        ("{gateways: [edge]}", {}, False),
        ("{sourceLabels: {app: x}}", {"source": Source(labels=(("app", "x"), ("b", "c")))}, True),
        ("{sourceLabels: {app: x}}", {"source": Source(labels=(("app", "y"),))}, False),
        ("{sourceNamespace: test}", {"source": Source(namespace="test")}, True),
        ("{sourceNamespace: test}", {}, False),
        ("{method: {exact: PUT}}, {method: {exact: GET}}", {}, True),
    ],
)
def test_other_conditions(routed: Routed, match: str, request_: dict[str, object], holds: bool) -> None:
    assert ("|v2|" in routed(TO_V2 % match, **request_).cluster) is holds


@pytest.mark.parametrize(
    ("match", "uri", "target", "path"),
    [
        ("{uri: {prefix: /a}}", "/b", "/a/x?q=1", "/b/x?q=1"),
        ("{uri: {prefix: /a/}}", "/", "/a/x", "/x"),
        ("{uri: {prefix: /a}}", "/", "/a/x", "//x"),
        ("{uri: {prefix: /A}, ignoreUriCase: true}", "/b", "/a/x", "/b/x"),
        ("{uri: {exact: /a}}", "/b", "/a?q", "/b?q"),
        ("{uri: {regex: '/a/.*'}}", "/b", "/a/x", "/b"),
        ("{headers: {x-none: {prefix: z}}}, {method: {exact: GET}}", "/new", "/a", "/newa"),
        ("{uri: {exact: /z}}, {uri: {prefix: /a}}", "/b", "/a/x", "/b/x"),
    ],
)
def test_rewrite_replaces_what_was_matched(routed: Routed, match: str, uri: str, target: str, path: str) -> None:
    http = f"""
  - match: [{match}]
    rewrite: {{uri: {uri}}}
    route: [{{destination: {{host: web, port: {{number: 80}}}}}}]
"""
    assert routed(http, target).request.target == path


def test_rewrite_by_regex_and_of_the_authority(routed: Routed) -> None:
    http = """
  - rewrite: {uriRegexRewrite: {match: '^/s/([^/]+)(/.*)$', rewrite: '\\2/i/\\1'}, authority: 'other:8080'}
    route: [{destination: {host: web, port: {number: 80}}}]
"""
    upstream = routed(http, "/s/foo/bar?x=1").request
    assert (upstream.target, upstream.authority) == ("/bar/i/foo?x=1", "other:8080")


@pytest.mark.parametrize(
    ("edit", "authority"),
    [
        ("rewrite: {authority: a}", "a"),
        ("headers: {request: {set: {host: b}}}", "b"),
        ("headers: {request: {set: {':authority': b}}}\n    rewrite: {authority: a}", "b"),
    ],
)
def test_authority_is_rewritten_by_header_edits_too(routed: Routed, edit: str, authority: str) -> None:
    http = f"  - {edit}\n    route: [{{destination: {{host: web, port: {{number: 80}}}}}}]\n"
    decision = routed(http)
    assert decision.request.authority == authority
    assert not any(name in ("host", ":authority") for name, _ in decision.request.headers)


def test_lone_destination_edits_like_its_route_in_turn(routed: Routed) -> None:
    http = """
  - headers: {request: {remove: [x-a], set: {x-b: route}, add: {x-c: route}}}
    route:
    - destination: {host: web, port: {number: 80}}
      headers: {request: {set: {X-A: new, x-b: own, x-c: over}, add: {x-d: '100%%'}}, response: {remove: [Server]}}
"""
    decision = routed(http, headers=(("x-a", "old"), ("x-b", "old")))
    assert sorted(decision.request.headers) == [("x-a", "new"), ("x-b", "own"), ("x-c", "over"), ("x-d", "100%")]
    assert decision.response_edits == (HeaderEdits(remove=("server",)),)


def test_weights_leave_out_what_has_none(routed: Routed) -> None:
    http = """
  - route:
    - {destination: {host: web, subset: v1, port: {number: 80}}}
    - {destination: {host: web, subset: v2, port: {number: 80}}, weight: 5}
"""
    decision = routed(http)
    assert decision.rule is not None
    assert "|v2|" in decision.cluster


@pytest.mark.parametrize(
    ("redirect", "status", "location"),
    [
        ("{uri: /b}", 301, "http://web/b?q=1"),
        ("{uri: '/b?z'}", 301, "http://web/b?z"),
        ("{authority: 'x.y:8', redirectCode: 302}", 302, "http://x.y:8/a?q=1"),
        ("{scheme: https, redirectCode: 307}", 307, "https://web/a?q=1"),
        ("{port: 8080}", 301, "http://web:8080/a?q=1"),
        ("{derivePort: FROM_REQUEST_PORT}", 301, "http://web:80/a?q=1"),
        ("{derivePort: FROM_PROTOCOL_DEFAULT}", 301, "http://web/a?q=1"),
        ("{prefixRewrite: /b/}", 301, "http://web/b/a?q=1"),
    ],
)
def test_redirect(routed: Routed, redirect: str, status: int, location: str) -> None:
    decision = routed(f"  - redirect: {redirect}\n", "/a?q=1")
    assert (decision.kind, decision.status) == (DecisionKind.REPLY, status)
    assert dict(decision.reply_headers)["location"] == location


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        ('{status: 418, body: {string: "tea\\n"}}', 418, "tea\n"),
        ("{status: 200, body: {bytes: aMO8}}", 200, "hü"),
        ("{status: 204, body: {string: dropped}}", 204, ""),
        ("{status: 503}", 503, ""),
    ],
)
def test_direct_response(routed: Routed, reply: str, status: int, body: str) -> None:
    decision = routed(f"  - directResponse: {reply}\n    headers: {{response: {{add: {{x-a: b}}}}}}\n")
    assert (decision.status, decision.reply_body) == (status, body)
    assert ("x-a", "b") in decision.reply_headers


DEFAULT_RETRY = RetryPolicy(
    attempts=2, on=("cancelled", "connect-failure", "refused-stream", "retriable-status-codes", "unavailable")
)


@pytest.mark.parametrize(
    ("setting", "timeout_ms", "retry"),
    [
        ("timeout: 1.5s", 1500, DEFAULT_RETRY),
        ("timeout: 0s", None, DEFAULT_RETRY),
        ("retries: {attempts: 0}", None, None),
        ("retries: {}", None, None),
        ("retries: {attempts: 3}", None, RetryPolicy(attempts=3, on=DEFAULT_RETRY.on)),
        (
            "retries: {attempts: 1, perTryTimeout: 2s, retryOn: 'reset, 503,5xx,502'}",
            None,
            RetryPolicy(
                attempts=1,
                on=("5xx", "reset", "retriable-status-codes"),
                status_codes=(502, 503),
                per_try_timeout_ms=2000,
            ),
        ),
    ],
)
def test_timeouts_and_retries(routed: Routed, setting: str, timeout_ms: int | None, retry: RetryPolicy | None) -> None:
    decision = routed(f"  - {setting}\n    route: [{{destination: {{host: web, port: {{number: 80}}}}}}]\n")
    assert (decision.timeout_ms, decision.retry) == (timeout_ms, retry)


def test_request_that_no_rule_matches_is_not_found(routed: Routed) -> None:
    decision = routed("  - match: [{uri: {exact: /only}}]\n    directResponse: {status: 200}\n", "/other")
    assert (decision.status, decision.code) == (404, "route_not_found")


def test_port_without_rules_keeps_its_default_route(routed: Routed) -> None:
    http = "  - match: [{port: 81}]\n    directResponse: {status: 503}\n"
    assert routed(http, port=81).status == 503
    assert routed(http).cluster == "outbound|80||web.default.svc.cluster.local"
    assert routed(http).retry == DEFAULT_RETRY


def test_clients_that_no_rule_is_for_keep_the_default_route(routed: Routed) -> None:
    http = """
  - match: [{sourceLabels: {app: a, tier: b}}, {sourceNamespace: test, uri: {exact: /x}}]
    directResponse: {status: 503}
"""
    concerned = Source(labels=(("app", "a"), ("tier", "b")))
    half = Source(labels=(("app", "a"),))
    other = Source(namespace="test")
    assert routed(http, source=concerned).status == 503
    assert routed(http, source=half).kind is DecisionKind.FORWARD
    assert routed(http).kind is DecisionKind.FORWARD
    assert routed(http, "/x", source=other).status == 503
    assert routed(http, "/y", source=other).status == 404, "concerned, but not matched: Istio has no default for it"


def test_rule_names_are_unique_and_say_where(policy: Callable[[str], object], web: str) -> None:
    text = (
        web
        + """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
"""
    )
    made = policy(text)
    names = [rule.name for table in made.tables for host in table.virtual_hosts for rule in host.rules]  # type: ignore[attr-defined]
    assert len(names) == len(set(names))
    assert "default/v/http[0]@web.default.svc.cluster.local:81" in names
