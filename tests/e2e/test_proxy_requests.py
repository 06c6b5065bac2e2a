"""Requests through the stand-alone proxy, byte by byte."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn
from tests.e2e.proxy_under_test import Proxy, to, until
from tests.e2e.raw_client import Client

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as started:
        yield started


@pytest.fixture(params=["uvloop", "asyncio"])
def proxy(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Proxy]:
    with Proxy(to(backend.port), loop=request.param) as started:
        yield started


def test_requests_on_one_connection_share_one_upstream_connection(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        for i in range(5):
            answer = client.get(f"/r/{i}?q={i}")
            assert answer.status == 200
            assert answer.json()["line"] == f"GET /r/{i}?q={i} HTTP/1.1"
    assert backend.accepted == 1


def test_upstream_gets_forwarding_headers_and_a_request_id(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.get()
        client.get("/", "X-Request-ID: mine", "X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: https")
    first, second = backend.requests
    assert UUID4.fullmatch(first.get("x-request-id") or "")
    assert first.all("x-forwarded-for") == ["127.0.0.1"]
    assert first.get("x-forwarded-proto") == "http"
    assert second.all("x-request-id") == ["mine"]
    assert second.all("x-forwarded-for") == ["9.9.9.9, 127.0.0.1"]
    assert second.all("x-forwarded-proto") == ["https"]


def test_every_request_gets_its_own_id_although_heads_are_remembered(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        for _ in range(20):
            client.get("/same")
    assert len({seen.get("x-request-id") for seen in backend.requests}) == 20


def test_distrusted_clients_cannot_say_whom_they_forward_for(backend: Backend) -> None:
    with Proxy(to(backend.port), options=Options(trust_forwarded=False)) as proxy, Client(proxy.port) as client:
        client.get("/", "x-forwarded-for: 9.9.9.9", "x-forwarded-proto: https", "x-envoy-internal: true")
    seen = backend.requests[0]
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all("x-forwarded-proto") == ["http"]
    assert seen.get("x-envoy-internal") is None


def test_nobody_outside_speaks_for_l7fp(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.get("/", "X-L7fp-Source: admin", "x-other: 1")
    assert backend.requests[0].get("x-l7fp-source") is None
    assert backend.requests[0].get("x-other") == "1"


def test_hop_by_hop_and_nominated_headers_end_here(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.get(
            "/", "Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: 5", "TE: trailers", "X-Kept: yes"
        )
    names = [name for name, _ in backend.requests[0].headers]
    assert not {"connection", "x-private", "keep-alive", "te"} & set(names)
    assert "x-kept" in names


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Authorization", "X-Forwarded-For"])
def test_connection_cannot_remove_what_routing_and_identity_rest_on(proxy: Proxy, backend: Backend, name: str) -> None:
    with Client(proxy.port) as client:
        assert client.get("/", f"Connection: {name}").status == 400
    assert backend.requests == []


def test_absolute_target_beats_host(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.get("http://other.test:81/x?y=1", host="a.test")
    assert backend.requests[0].line == "GET /x?y=1 HTTP/1.1"
    assert backend.requests[0].all("host") == ["other.test:81"]


def test_absolute_target_without_path_means_the_root(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.get("HTTP://other.test?z")
    assert backend.requests[0].target == "/?z"


def test_header_bytes_that_are_no_text_pass_unchanged(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-latin: D\xfcsseldorf \xff\r\nx-utf: \xc3\xbc\r\n\r\n")
        assert client.response().status == 200
    assert b"x-latin: D\xfcsseldorf \xff\r\n" in backend.requests[0].raw
    assert b"x-utf: \xc3\xbc\r\n" in backend.requests[0].raw


def test_length_delimited_body(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 005\r\n\r\nhello")
        seen = client.response().json()
    assert seen["body"] == "hello"
    assert ["content-length", "5"] in seen["headers"]


def test_chunked_body_is_decoded_and_framed_anew_without_extensions_and_trailers(
    proxy: Proxy, backend: Backend
) -> None:
    with Client(proxy.port) as client:
        client.send(b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\ntrailer: x\r\n\r\n")
        client.send(b'5;a=b;c="d e"\r\nhel')
        client.send(b"lo\r\n00")
        client.send(b"6\r\n world\r\n0\r\nx-checksum: 1\r\n\r\n")
        seen = client.response().json()
        assert seen["body"] == "hello world"
        assert client.get("/next").json()["line"] == "GET /next HTTP/1.1"
    assert backend.requests[0].all("transfer-encoding") == ["chunked"]
    assert backend.requests[0].get("trailer") is None


def test_pipelined_requests_are_answered_in_order(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(
            b"".join(b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n%02d" % (i, i) for i in range(50))
        )
        for i in range(50):
            seen = client.response().json()
            assert (seen["line"], seen["body"]) == (f"POST /{i} HTTP/1.1", f"{i:02d}")


def test_a_request_may_come_byte_by_byte(proxy: Proxy) -> None:
    raw = b"POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with Client(proxy.port) as client:
        for i in range(len(raw)):
            client.send(raw[i : i + 1])
        assert client.response().json()["body"] == "abc"


def test_one_empty_line_before_a_request_is_skipped_two_are_not(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(b"\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response().status == 200
        client.send(b"\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response().status == 400
        assert client.closed()


def test_head_request_has_a_length_and_no_body(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(b"HEAD /h HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = client.response("HEAD")
        assert int(answer.get("content-length") or 0) > 0
        assert client.get("/after").json()["line"] == "GET /after HTTP/1.1"


def test_connection_close_is_honoured(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        answer = client.get("/", "Connection: close")
        assert answer.get("connection") == "close"
        assert client.closed()


def test_http10_closes_unless_asked_not_to(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert client.response().get("connection") == "close"
        assert client.closed()
    with Client(proxy.port) as client:
        for _ in range(2):
            client.send(b"GET /old HTTP/1.0\r\nhost: a\r\nconnection: Keep-Alive\r\n\r\n")
            assert client.response().get("connection") == "keep-alive"
    assert backend.requests[0].line == "GET /old HTTP/1.1"
    assert backend.requests[0].all("host") == [""]


def test_versionless_request_is_served_and_the_connection_closed(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.send(b"GET /simple\r\n\r\n")
        assert client.response().status == 200
        assert client.closed()
    assert backend.requests[0].line == "GET /simple HTTP/1.1"


def test_half_closed_client_gets_all_its_answers(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        client.sock.shutdown(1)
        assert client.response().json()["line"] == "GET /1 HTTP/1.1"
        last = client.response()
        assert last.json()["line"] == "GET /2 HTTP/1.1"
        assert client.closed()


def test_expect_continue_is_answered_before_the_body(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.send(b"POST /e HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 3\r\n\r\n")
        assert client.head()[0] == 100
        client.send(b"abc")
        assert client.response().json()["body"] == "abc"
        assert client.informational == []
    assert backend.requests[0].get("expect") is None


def test_unknown_expectations_fail(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        assert client.get("/", "expect: the-unexpected").status == 417


def test_client_that_ends_in_the_middle_of_a_body_takes_the_upstream_connection_with_it(
    proxy: Proxy, backend: Backend
) -> None:
    with Client(proxy.port) as client:
        client.send(b"POST /cut HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        until(lambda: backend.requests)
    until(lambda: proxy.outcomes() == {"downstream_remote_disconnect": 1})
    with Client(proxy.port) as client:
        assert client.get("/whole").json()["conn"] == 1


def test_pipelined_request_whose_body_never_comes_does_not_take_earlier_answers_with_it(proxy: Proxy) -> None:
    with Client(proxy.port) as client:
        client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab")
        client.sock.shutdown(1)
        assert client.response().json()["line"] == "GET /1 HTTP/1.1"
        assert client.closed()
    until(lambda: proxy.stats()["connections"]["active"] == 0)


BAD = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    "empty host": (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
    "userinfo in host": (b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400),
    "list of hosts": (b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
    "slash in host": (b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
    "port too large": (b"GET / HTTP/1.1\r\nhost: a:65536\r\n\r\n", 400),
    "length and chunked": (
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "equal lengths": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
    "length list": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc", 400),
    "signed length": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
    "hex length": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc", 400),
    "length above 2^63": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9223372036854775808\r\n\r\n", 400),
    "length with trailing space": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3 \r\n\r\nabc", 400),
    "unicode digits": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \xd9\xa3\r\n\r\nabc", 400),
    "xchunked": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n", 400),
    "chunked, identity": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n", 400),
    "tab before chunked": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\tchunked\r\n\r\n", 400),
    "space after chunked": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked \r\n\r\n", 400),
    "kelvin sign": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chun\xe2\x84\xaaed\r\n\r\n", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\nhost: a\r\n" + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n", 400),
    "chunked on 1.0": (b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "folded line": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\ny: b\r\n\r\n", 400),
    "only LF": (b"GET / HTTP/1.1\nhost: a\n\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nhost: a\r\n: a\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nhost: a\r\nxyz\r\n\r\n", 400),
    "space in target": (b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "control in target": (b"GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "high byte in target": (b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "relative target": (b"GET a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "https target": (b"GET https://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "lower-case method": (b"get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "unknown method": (b"MKCOLA / HTTP/1.1\r\nhost: a\r\n\r\n", 501),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 501),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nhost: a\r\n\r\n", 505),
    "lower-case version": (b"GET / http/1.1\r\nhost: a\r\n\r\n", 400),
    "target too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    "endless target": (b"GET /" + b"a" * 70000, 414),
    "endless head": (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 70000, 431),
    "too many headers": (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 300 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", BAD)
def test_unacceptable_heads_are_refused_and_the_connection_closed(proxy: Proxy, backend: Backend, name: str) -> None:
    raw, status = BAD[name]
    with Client(proxy.port) as client:
        client.send(raw)
        assert client.response().status == status
        assert client.closed()
    assert backend.requests == []


BAD_CHUNKS = {
    "missing CRLF after data": b"3\r\nabcX\r\n0\r\n\r\n",
    "bare LF after size": b"3\nabc\r\n0\r\n\r\n",
    "size with sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "space after size": b"3 \r\nabc\r\n0\r\n\r\n",
    "empty size": b"\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "control in extension": b"3;a=\x01\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"a" * 5000,
    "transfer-encoding in trailers": b"3\r\nabc\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nx: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_malformed_chunks_never_make_a_complete_request(proxy: Proxy, backend: Backend, name: str) -> None:
    with Client(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + BAD_CHUNKS[name])
        assert client.response().status == 400
        assert client.closed()
    until(lambda: proxy.stats()["requests"]["active"] == 0)
    assert b"abc" not in [seen.body for seen in backend.requests]


def test_smuggled_second_request_is_never_seen(proxy: Proxy, backend: Backend) -> None:
    with Client(proxy.port) as client:
        client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n"
        )
        assert client.response().status == 400
        assert client.closed()
    assert backend.requests == []


def test_incomplete_head_times_out() -> None:
    def never(conn: Conn) -> None:
        conn.fill()

    with Backend(never) as backend, Proxy(to(backend.port), options=Options(head_timeout_ms=100)) as proxy:
        with Client(proxy.port) as client:
            client.send(b"GET / HTTP/1.1\r\nho")
            assert client.response().status == 408
            assert client.closed()
    assert backend.accepted == 0


def sweep(proxy: Proxy) -> None:
    proxy.call(lambda: proxy.clients[-1].sweep(proxy.loop.time()))


def test_time_for_a_head_begins_with_its_first_byte(backend: Backend) -> None:
    with Proxy(to(backend.port), options=Options(head_timeout_ms=150)) as proxy, Client(proxy.port) as client:
        assert client.get().status == 200
        time.sleep(0.2)
        sweep(proxy)
        client.send(b"GET / HTTP/1.1\r\n")
        until(lambda: proxy.clients[-1]._buffer)
        sweep(proxy)
        client.send(b"host: a\r\n\r\n")
        assert client.response().status == 200


def test_idle_connections_and_silent_exchanges_end() -> None:
    def silent(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n.")
        for _ in range(5):
            time.sleep(0.04)
            conn.send(b".")
        conn.fill()

    short = Options(client_idle_timeout_ms=100, stream_idle_timeout_ms=100)
    with Backend(silent) as backend, Proxy(to(backend.port), options=short) as proxy:
        with Client(proxy.port) as client:
            until(lambda: proxy.clients)
            time.sleep(0.12)
            sweep(proxy)
            assert client.closed()
        with Client(proxy.port) as client:
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            client.head()
            while client.buffer.count(b".") < 6:  # slowly, but something moves
                client.fill()
                sweep(proxy)
            time.sleep(0.12)
            sweep(proxy)
            assert client.reset()
            assert proxy.outcomes()["stream_idle_timeout"] == 1
