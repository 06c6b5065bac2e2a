"""The whole policy through the stand-alone proxy: what the interpreter says is what happens."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from l7fp.ir.interp import Interpreter, Request, Source
from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    Condition,
    Destination,
    DirectResponse,
    Endpoint,
    Field,
    FieldKind,
    HeaderEdits,
    LoadBalancer,
    Match,
    PathNormalization,
    PathRewrite,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    StringKind,
    StringMatch,
    Workload,
)
from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn
from tests.e2e.proxy_under_test import PORT, Proxy, cluster, endpoint, policy, route, rule, to, until
from tests.e2e.raw_client import Client


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as started:
        yield started


def path(kind: StringKind, value: str) -> Condition:
    return Condition(field=Field(FieldKind.PATH), any_of=(StringMatch(kind, value),))


def header(name: str, value: str) -> Condition:
    return Condition(field=Field(FieldKind.HEADER, name), any_of=(StringMatch(StringKind.EXACT, value),))


def when(*conditions: Condition) -> Match:
    return Match(conditions=conditions)


def named(name: str) -> Backend:
    """A backend that answers with its name."""

    def handler(conn: Conn) -> None:
        while True:
            conn.read_request()
            conn.respond(name.encode())

    return Backend(handler)


def test_replies_of_the_policy_keep_the_connection(backend: Backend) -> None:
    rules = (
        rule(
            Redirect(status=308, authority="b.test", path="/new"), when(path(StringKind.EXACT, "/old")), name="redirect"
        ),
        rule(
            DirectResponse(status=418, body="teapot", response_headers=HeaderEdits(set=(("x-a", "1"),))),
            when(path(StringKind.PREFIX, "/tea")),
            name="tea",
        ),
        rule(route("c"), when(path(StringKind.PREFIX, "/c")), name="c"),
    )
    with Proxy(policy(cluster("c", backend.port), rules=rules)) as proxy, Client(proxy.port) as client:
        for _ in range(2):
            answer = client.get("/old?q=1")
            assert (answer.status, answer.get("location")) == (308, "http://b.test/new?q=1")
            answer = client.get("/tea")
            assert (answer.status, answer.body, answer.get("x-a")) == (418, b"teapot", "1")
            assert answer.get("content-type") == "text/plain"
            assert client.get("/nothing").status == 404
            assert client.get("/c").status == 200
        client.send(b"HEAD /tea HTTP/1.1\r\nhost: a\r\n\r\n")
        head = client.response("HEAD")
        assert (head.status, head.get("content-length"), head.body) == (418, "6", b"")
        assert client.get("/c").status == 200
        stats = proxy.stats()
    assert stats["outcomes"] == {"direct_response": 3, "redirect": 2, "route_not_found": 2, "via_upstream": 3}
    assert stats["rules"] == {"c": 3, "redirect": 2, "tea": 3}


def test_reply_to_an_upload_does_not_read_the_body_as_the_next_request(backend: Backend) -> None:
    with Proxy(policy(rules=(rule(DirectResponse(status=403)),))) as proxy, Client(proxy.port) as client:
        body = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert client.response().status == 403
        client.send(body)
        assert client.quiet()
        assert client.get("/next").status == 403


def test_rewrites_and_edits_reach_the_server(backend: Backend) -> None:
    edits = HeaderEdits(remove=("x-gone",), set=(("x-set", "new"), ("host", "evil")), add=(("x-add", "1"),))
    rules = (
        rule(
            Route(
                destinations=(Destination(cluster="c", request_headers=HeaderEdits(set=(("x-set", "first"),))),),
                path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/v2/"),
                authority_rewrite="inner.test",
                request_headers=edits,
            ),
            when(path(StringKind.PREFIX, "/v1/")),
        ),
    )
    with Proxy(policy(cluster("c", backend.port), rules=rules)) as proxy, Client(proxy.port) as client:
        for _ in range(3):
            client.get("/v1/x?y", "x-gone: 1", "x-set: old")
    for seen in backend.requests:
        assert seen.line == "GET /v2/x?y HTTP/1.1"
        assert seen.all("host") == ["inner.test"]
        assert (seen.all("x-set"), seen.all("x-add"), seen.all("x-gone")) == (["new"], ["1"], [])


@pytest.mark.parametrize("target", ["/admin", "//admin", "/%61dmin", "/x/..%2fadmin", "/./admin", "/x/../admin?q"])
def test_what_is_matched_is_what_is_forwarded(backend: Backend, target: str) -> None:
    rules = (
        rule(DirectResponse(status=403), when(path(StringKind.EXACT, "/admin")), name="deny"),
        rule(route("c"), name="rest"),
    )
    normal = policy(
        cluster("c", backend.port), rules=rules, path_normalization=PathNormalization.DECODE_AND_MERGE_SLASHES
    )
    with Proxy(normal) as proxy, Client(proxy.port) as client:
        assert client.get(target).status == 403
        assert client.get("/a/%2e%2e//b%41?%41").json()["line"] == "GET /bA?%41 HTTP/1.1"
        assert client.get("/%00").status == 400
    assert [seen.target for seen in backend.requests] == ["/bA?%41"]


def test_headers_that_decide_are_looked_at_each_time(backend: Backend) -> None:
    rules = (
        rule(DirectResponse(status=201), when(header("x-user", "jason")), name="jason"),
        rule(DirectResponse(status=202), name="rest"),
    )
    with Proxy(policy(rules=rules)) as proxy, Client(proxy.port) as client:
        for i in range(3):
            assert client.get("/", "X-User: jason", f"x-n: {i}").status == 201
            assert client.get("/", "x-user: eve", f"x-n: {i}").status == 202
            assert client.get("/", f"x-n: {i}").status == 202


def test_hop_by_hop_headers_can_be_matched(backend: Backend) -> None:
    rules = (rule(DirectResponse(status=201), when(header("upgrade", "websocket"))), rule(route("c"), name="rest"))
    with Proxy(policy(cluster("c", backend.port), rules=rules)) as proxy, Client(proxy.port) as client:
        assert client.get("/", "connection: upgrade", "upgrade: websocket").status == 201
        assert client.get("/").status == 200


def test_weights_are_drawn_per_request() -> None:
    with named("a") as a, named("b") as b:
        split = Route(destinations=(Destination(cluster="a", weight=80), Destination(cluster="b", weight=20)))
        with Proxy(policy(cluster("a", a.port), cluster("b", b.port), rules=(rule(split),))) as proxy:
            with Client(proxy.port) as client:
                got = Counter(client.get("/same").body for _ in range(1000))
    # Five standard deviations.
    assert abs(got[b"b"] - 200) < 64
    assert sum(got.values()) == 1000


def test_round_robin_is_even_and_heeds_weights() -> None:
    with named("a") as a, named("b") as b:
        even = policy(cluster("c", a.port, b.port))
        with Proxy(even) as proxy, Client(proxy.port) as client:
            assert Counter(client.get().body for _ in range(100)) == {b"a": 50, b"b": 50}
        heavy = Endpoint(address="127.0.0.1", port=a.port, weight=3)
        with Proxy(policy(cluster("c", heavy, b.port))) as proxy, Client(proxy.port) as client:
            assert Counter(client.get().body for _ in range(100)) == {b"a": 75, b"b": 25}


def test_least_request_avoids_a_busy_server() -> None:
    def slow(conn: Conn) -> None:
        while conn.read_request():
            conn.fill()  # never answers

    with Backend(slow) as busy, named("free") as free:
        least = policy(cluster("c", busy.port, free.port, balance=LoadBalancer.LEAST_REQUEST))
        with Proxy(least) as proxy:
            clients = [Client(proxy.port) for _ in range(30)]
            for i, client in enumerate(clients, 1):
                client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                until(lambda i=i: len(busy.requests) + proxy.outcomes().get("via_upstream", 0) == i)  # type: ignore[misc]
            for client in clients:
                client.close()
    assert len(busy.requests) == 1


def guarded(port: int, *authz: AuthzPolicy) -> Policy:
    server = Workload(name="server", namespace="default", policies=tuple(a.name for a in authz))
    return policy(cluster("c", endpoint(port, "server")), workloads=(server,), authz=authz)


def test_authorization_is_enforced_at_the_endpoint(backend: Backend) -> None:
    methods = Condition(field=Field(FieldKind.METHOD), any_of=(StringMatch(StringKind.EXACT, "GET"),))
    who = Condition(field=Field(FieldKind.SOURCE_NAMESPACE), any_of=(StringMatch(StringKind.EXACT, "front"),))
    allow = AuthzPolicy(
        name="default/allow",
        action=AuthzAction.ALLOW,
        rules=(AuthzRule(sources=(when(who),), operations=(when(methods),)),),
    )
    friend = Source(workload="w", namespace="front", ip="127.0.0.1")
    with Proxy(guarded(backend.port, allow), source=friend) as proxy, Client(proxy.port) as client:
        assert client.get().status == 200
        client.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        refused = client.response()
        assert (refused.status, refused.body) == (403, b"RBAC: access denied")
        assert client.get().status == 200
    with Proxy(guarded(backend.port, allow)) as proxy, Client(proxy.port) as client:
        assert client.get().status == 403
        assert proxy.outcomes() == {"rbac_access_denied": 1}
    assert len(backend.requests) == 2


def test_denial_cannot_be_escaped_by_repeating_a_header(backend: Backend) -> None:
    deny = AuthzPolicy(
        name="default/deny",
        action=AuthzAction.DENY,
        rules=(AuthzRule(when=when(header("x-role", "guest"))),),
    )
    with Proxy(guarded(backend.port, deny)) as proxy, Client(proxy.port) as client:
        assert client.get("/", "x-role: admin").status == 200
        assert client.get("/", "x-role: admin", "x-role: guest").status == 403
        assert client.get("/", "x-role: guest", "x-role: admin").status == 403


def test_policy_swap_lets_a_request_end_under_its_own(backend: Backend) -> None:
    def slow(conn: Conn) -> None:
        while True:
            conn.read_request()
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
            gate.recv_wait(conn)
            conn.send(b"k")

    class Gate:
        opened = False

        def recv_wait(self, conn: Conn) -> None:
            until(lambda: self.opened)

    gate = Gate()
    with Backend(slow) as upstream, Proxy(to(upstream.port)) as proxy, Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.head()[0] == 200
        proxy.call(lambda: proxy.server.set_policy(policy(rules=(rule(DirectResponse(status=410)),))))
        gate.opened = True
        assert client.exactly(2) == b"ok"
        assert client.get().status == 410


def test_swaps_under_load_lose_nothing() -> None:
    """The endpoint changes with every swap, so that pools come and go."""
    wrong: list[object] = []
    stop = threading.Event()
    with named("a") as a, named("b") as b, Proxy(to(a.port)) as proxy:

        def load() -> None:
            with Client(proxy.port) as client:
                while not stop.is_set():
                    answer = client.get()
                    if answer.status != 200 or answer.body not in (b"a", b"b"):
                        wrong.append((answer.status, answer.body))

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        for i in range(200):
            after = to(a.port if i % 2 else b.port)
            proxy.call(lambda after=after: proxy.server.set_policy(after))  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join(10)
        assert wrong == []
        assert proxy.stats()["outcomes"].keys() == {"via_upstream"}


def test_upstream_request_is_the_interpreters_and_what_a_proxy_adds(backend: Backend) -> None:
    """The proxy edits bytes it remembers; it must come to what the interpreter says for each request."""
    edits = HeaderEdits(remove=("x-gone",), set=(("x-set", "new"),), add=(("x-set", "more"), ("x-add", "1")))
    rules = (
        rule(
            Route(
                destinations=(Destination(cluster="c", request_headers=HeaderEdits(add=(("x-gone", "d"),))),),
                path_rewrite=PathRewrite(kind=RewriteKind.FULL, value="/all"),
                request_headers=edits,
            )
        ),
    )
    whole = policy(cluster("c", backend.port), rules=rules)
    interpreter = Interpreter(whole)
    sent = [
        (("x-gone", "1"), ("x-a", "1"), ("x-set", "o"), ("x-set", "p")),
        (("x-a", "2"), ("x-set", "o")),
        (("x-a", "3"),),
        (),
    ]
    with Proxy(whole) as proxy, Client(proxy.port) as client:
        for headers in sent * 2:
            client.get("/x?q", *(f"{n}: {v}" for n, v in headers))
    for headers, seen in zip(sent * 2, backend.requests, strict=True):
        request = Request(port=PORT, method="GET", target="/x?q", authority="a.test", headers=headers)
        expected = interpreter.decide(request).request
        assert seen.target == expected.target == "/all?q"
        added = {"host", "x-forwarded-for", "x-forwarded-proto", "x-request-id"}
        assert tuple(pair for pair in seen.headers if pair[0] not in added) == expected.headers


def test_ipv6_end_to_end() -> None:
    with Backend(address="::1") as backend:
        six = policy(cluster("c", endpoint(backend.port, address="::1")))
        with Proxy(six, address="::1") as proxy, Client(proxy.port, "::1") as client:
            assert client.get(host="[::1]:80").status == 200
            assert backend.requests[0].get("x-forwarded-for") == "::1"
            assert backend.requests[0].get("host") == "[::1]:80"


def test_memory_of_heads_stays_bounded(backend: Backend) -> None:
    with Proxy(policy(rules=(rule(DirectResponse(status=204)),)), options=Options(memo_entries=80)) as proxy:
        with Client(proxy.port) as client:
            for i in range(500):
                for _ in range(2):
                    assert client.get(f"/{i}").status == 204
        version = proxy.server.version
        assert 0 < len(version.heads) <= 40
        assert 80 <= len(version.plans) <= 160
        assert len(version.once) <= 80
