"""Responses through the stand-alone proxy: framing, early and broken ones, tunnels, back-pressure."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from l7fp.ir.model import HeaderEdits
from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn, Handler
from tests.e2e.proxy_under_test import Proxy, to, until
from tests.e2e.raw_client import Client, Closed

LOOPS = ["uvloop", "asyncio"]
MB = 1 << 20


@contextmanager
def serving(handler: Handler, loop: str | None = None, **options: int) -> Iterator[tuple[Proxy, Backend]]:
    with Backend(handler) as backend, Proxy(to(backend.port), loop=loop, options=Options(**options)) as proxy:
        yield proxy, backend


def always(raw: bytes, *, then: Callable[[Conn], None] | None = None) -> Handler:
    """Answers every request with `raw`."""

    def handler(conn: Conn) -> None:
        while True:
            conn.read_request()
            conn.send(raw)
            if then is not None:
                then(conn)

    return handler


def close(conn: Conn) -> None:
    conn.sock.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_chunked_response_stays_chunked_and_the_connection_usable(loop: str) -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nx-trailer: 1\r\n\r\n"
    with serving(always(raw), loop) as (proxy, backend), Client(proxy.port) as client:
        for _ in range(3):
            answer = client.get()
            assert (answer.body, answer.chunked) == (b"hello!", True)
        assert backend.accepted == 1


def test_chunked_response_to_http10_ends_with_the_connection() -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with serving(always(raw)) as (proxy, _), Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n")
        answer = client.response()
        assert (answer.body, answer.ended_by_close, answer.get("connection")) == (b"hello", True, "close")


@pytest.mark.parametrize("loop", LOOPS)
def test_response_that_ends_with_its_connection_becomes_chunked(loop: str) -> None:
    def handler(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        time.sleep(0.02)
        conn.send(b"lo")

    with serving(handler, loop) as (proxy, backend), Client(proxy.port) as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.body, answer.chunked) == (b"hello", True)
        assert backend.accepted == 2
    with serving(handler, loop) as (proxy, _), Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().body == b"hello"


def test_http10_upstream_is_used_once() -> None:
    raw = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"
    with serving(always(raw, then=close)) as (proxy, backend), Client(proxy.port) as client:
        assert [client.get().body for _ in range(3)] == [b"ok"] * 3
        assert backend.accepted == 3


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body(status: int) -> None:
    raw = b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status
    with serving(always(raw)) as (proxy, backend), Client(proxy.port) as client:
        first, second = client.get(), client.get()
        assert (first.status, second.status) == (status, status)
        assert first.get("content-length") == (None if status == 204 else "5")
        assert backend.accepted == 1


def test_informational_responses_pass_but_100_is_the_proxys_own() -> None:
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    )
    with serving(always(raw)) as (proxy, _), Client(proxy.port) as client:
        assert client.get().body == b"ok"
        assert client.informational == [103]
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().body == b"ok"
        assert client.informational == [103]


def test_hop_by_hop_headers_of_the_server_end_here_and_its_close_is_not_the_clients() -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nserver: s/1\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n"
        b"content-length: 2\r\n\r\nok"
    )
    with serving(always(raw, then=close)) as (proxy, backend), Client(proxy.port) as client:
        for _ in range(2):
            answer = client.get()
            assert {name for name, _ in answer.headers} == {"server", "content-length"}
            assert answer.get("server") == "s/1"
        assert backend.accepted == 2


def test_response_edits_apply() -> None:
    edits = HeaderEdits(remove=("x-gone",), set=(("x-set", "new"), ("content-length", "9")), add=(("x-add", "1"),))
    raw = b"HTTP/1.1 200 OK\r\nx-gone: 1\r\nx-set: a\r\nx-set: b\r\ncontent-length: 2\r\n\r\nok"
    with Backend(always(raw)) as backend, Proxy(to(backend.port, response_headers=edits)) as proxy:
        with Client(proxy.port) as client:
            for _ in range(3):
                answer = client.get()
                assert answer.headers == [("x-set", "new"), ("x-add", "1"), ("content-length", "2")]


BROKEN = {
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "bad first chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_unacceptable_response_is_a_502(name: str) -> None:
    with serving(always(BROKEN[name])) as (proxy, _), Client(proxy.port) as client:
        assert client.get().status == 502
        assert proxy.stats()["upstream_failures"] == {"protocol_error": 1}


def test_bytes_after_a_response_are_not_the_next_one() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    with serving(always(raw)) as (proxy, backend), Client(proxy.port) as client:
        assert [client.get().body for _ in range(3)] == [b"ok"] * 3
        assert backend.accepted == 3


def test_bytes_that_nobody_asked_for_close_the_idle_connection() -> None:
    def handler(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"ok")
        time.sleep(0.02)
        conn.respond(b"evil")
        conn.fill()

    with serving(handler) as (proxy, backend), Client(proxy.port) as client:
        assert client.get().body == b"ok"
        time.sleep(0.1)
        assert client.get().body == b"ok"
        assert backend.accepted == 2


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["length", "chunked"],
)
def test_truncated_response_resets_the_client(loop: str, raw: bytes) -> None:
    with serving(always(raw, then=close), loop) as (proxy, _), Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.reset()
        assert not client.buffer.endswith(b"0\r\n\r\n")


def test_malformed_chunk_in_mid_response_resets_the_client() -> None:
    def handler(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.05)
        conn.send(b"zz\r\n")
        conn.fill()

    with serving(handler) as (proxy, _), Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.reset()


def test_answer_before_the_end_of_the_request_keeps_the_connection_in_step() -> None:
    def handler(conn: Conn) -> None:
        while True:
            seen = conn.read_head()
            conn.respond(seen.target.encode())
            conn.read_body(seen)

    with serving(handler) as (proxy, backend), Client(proxy.port) as client:
        client.send(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 40\r\n\r\n12345")
        assert client.response().body == b"/early"
        # What follows looks like a request and is none.
        client.send(b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"[:35])
        client.send(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response().body == b"/next"
        assert [seen.target for seen in backend.requests] == ["/early", "/next"]
        assert backend.accepted == 2


def test_answer_before_the_end_of_an_endless_request_ends_the_connection() -> None:
    def handler(conn: Conn) -> None:
        conn.read_head()
        conn.respond(b"no", 413)
        conn.fill()

    with serving(handler, max_drain=10_000) as (proxy, _), Client(proxy.port) as client:
        client.send(b"POST /big HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n")
        assert client.response().status == 413
        client.send(b"x" * 20_000)
        assert client.closed()


@pytest.mark.parametrize("loop", LOOPS)
def test_early_refusal_of_a_large_upload_reaches_the_client(loop: str) -> None:
    def handler(conn: Conn) -> None:
        conn.read_head()
        conn.exactly(200_000)
        conn.respond(b"too large", 413)
        conn.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.3)

    with serving(handler, loop, splice_at_least=65536) as (proxy, _), Client(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n" + bytes(300_000))
        answer = client.response()
        assert (answer.status, answer.body) == (413, b"too large")
        assert client.closed()


def test_denied_upload_waiting_for_100_ends_the_connection() -> None:
    with Proxy(to(1)) as proxy, Client(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        answer = client.response()
        assert (answer.status, answer.get("connection"), client.informational) == (503, "close", [])
        assert client.closed()


# --- tunnels ------------------------------------------------------------------------------------

UPGRADE = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\r\n"


def shouting(conn: Conn) -> None:
    """Switches protocols, then sends everything back in capitals; at the end says so."""
    seen = conn.read_request()
    assert seen.get("upgrade") == "websocket"
    assert seen.get("connection") == "upgrade"
    conn.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nHELLO ")
    while data := (conn.buffer or conn.sock.recv(65536)):
        conn.buffer = b""
        conn.send(data.upper())
    conn.send(b" bye")


@pytest.mark.parametrize("loop", LOOPS)
def test_websocket_becomes_a_tunnel_with_half_close(loop: str) -> None:
    with serving(shouting, loop) as (proxy, _), Client(proxy.port) as client:
        client.send(UPGRADE + b"early ")  # sent before the answer: belongs to the new protocol
        answer = client.response()
        assert (answer.status, answer.get("upgrade"), answer.get("connection")) == (101, "websocket", "upgrade")
        client.send(b"GET / HTTP/1.1 is no request here")
        assert client.exactly(45) == b"HELLO EARLY GET / HTTP/1.1 IS NO REQUEST HERE"
        assert proxy.stats()["tunnels"] == 1
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b" bye"
        until(lambda: proxy.stats()["connections"]["active"] == 0)
        assert proxy.stats()["tunnels"] == 0


def test_tunnel_ends_with_the_client() -> None:
    ended = threading.Event()

    def handler(conn: Conn) -> None:
        try:
            shouting(conn)
        finally:
            ended.set()

    with serving(handler) as (proxy, _):
        with Client(proxy.port) as client:
            client.send(UPGRADE)
            client.response()
        assert ended.wait(5)


def test_refused_upgrade_is_an_ordinary_response() -> None:
    with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as (proxy, _), Client(proxy.port) as client:
        client.send(UPGRADE)
        assert client.response().body == b"ok"
        assert client.get().body == b"ok"


@pytest.mark.parametrize("protocol", ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c"])
def test_other_protocols_are_not_offered_to_the_server(protocol: str) -> None:
    with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as (proxy, backend):
        with Client(proxy.port) as client:
            client.get("/", "connection: upgrade, http2-settings", f"upgrade: {protocol}", "http2-settings: AAMA")
    names = {name for name, _ in backend.requests[0].headers}
    assert not names & {"upgrade", "connection", "http2-settings"}


# --- bulk ---------------------------------------------------------------------------------------


def pattern(n: int) -> bytes:
    return (bytes(range(256)) * (n // 256 + 1))[:n]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("splice", [True, False], ids=["splice", "copy"])
@pytest.mark.parametrize("size", [70_000, 300_000, 5 * MB + 7])
def test_large_bodies_both_ways(loop: str, splice: bool, size: int) -> None:
    def handler(conn: Conn) -> None:
        while True:
            body = conn.read_request().body
            assert body in (b"", pattern(size))
            conn.respond(pattern(size))

    threshold = 65536 if splice else 1 << 40
    with serving(handler, loop, splice_at_least=threshold) as (proxy, backend), Client(proxy.port) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
            client.send(pattern(size))
            client.send(b"GET /pipelined HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.response().body == pattern(size)
            assert client.response().body == pattern(size)
        assert backend.accepted == 1
        assert [seen.body == pattern(size) for seen in backend.requests] == [True, False] * 2


@pytest.mark.parametrize("loop", LOOPS)
def test_large_chunked_bodies_both_ways(loop: str) -> None:
    size = 3 * MB

    def handler(conn: Conn) -> None:
        while True:
            assert conn.read_request().body == pattern(size)
            conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, size, MB):
                conn.send(b"%X\r\n" % MB + pattern(size)[at : at + MB] + b"\r\n")
            conn.send(b"0\r\n\r\n")

    with serving(handler, loop) as (proxy, backend), Client(proxy.port) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            client.send(b"%x\r\n" % size + pattern(size) + b"\r\n0\r\n\r\n")
            assert client.response().body == pattern(size)
        assert backend.accepted == 1


def flood(conn: Conn, head: bytes, piece: bytes, sent: list[int]) -> None:
    conn.send(head)
    while True:
        conn.send(piece)
        sent[0] += len(piece)


def settled(counter: list[int]) -> int:
    """The value of a counter that has stopped."""
    last = -1
    while counter[0] != last:
        last = counter[0]
        time.sleep(0.25)
    return last


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("framing", ["length", "spliced", "chunked", "eof", "tunnel"])
def test_client_that_does_not_read_stops_the_server(loop: str, framing: str) -> None:
    heads = {
        "length": b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n",
        "spliced": b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n",
        "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "eof": b"HTTP/1.1 200 OK\r\n\r\n",
        "tunnel": b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    }
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if framing == "chunked" else bytes(65536)
    sent = [0]

    def handler(conn: Conn) -> None:
        conn.read_request()
        flood(conn, heads[framing], piece, sent)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    splice = 65536 if framing == "spliced" else 1 << 40
    with serving(handler, loop, splice_at_least=splice) as (proxy, _), Client(proxy.port) as client:
        client.send(UPGRADE if framing == "tunnel" else b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: sent[0])
        # Socket buffers of both connections, and the proxy's own.
        assert settled(sent) < 40 * MB
        # And it goes on when the client reads.
        for _ in range(64):
            client.sock.recv(MB)
        until(lambda: sent[0] > 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("framing", ["length", "spliced", "chunked", "tunnel"])
def test_server_that_does_not_read_stops_the_client(loop: str, framing: str) -> None:
    heads = {
        "length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n",
        "spliced": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n",
        "chunked": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        "tunnel": UPGRADE,
    }
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if framing == "chunked" else bytes(65536)
    sent = [0]
    done = threading.Event()

    def handler(conn: Conn) -> None:
        conn.read_head()
        if framing == "tunnel":
            conn.send(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        done.wait(20)

    def upload(client: Client) -> None:
        try:
            client.send(heads[framing])
            while True:
                client.send(piece)
                sent[0] += len(piece)
        except OSError:
            pass

    splice = 65536 if framing == "spliced" else 1 << 40
    with serving(handler, loop, splice_at_least=splice) as (proxy, _):
        with Client(proxy.port) as client:
            client.sock.settimeout(None)
            thread = threading.Thread(target=upload, args=(client,))
            thread.start()
            until(lambda: sent[0])
            assert settled(sent) < 40 * MB
            client.sock.shutdown(socket.SHUT_RDWR)
            thread.join(5)
        done.set()


def test_client_that_only_sends_requests_is_not_read_without_end() -> None:
    sent = [0]

    def upload(client: Client) -> None:
        try:
            while True:
                client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 1000)
                sent[0] += 1
        except OSError:
            pass

    with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n" + bytes(10_000))) as (proxy, backend):
        with Client(proxy.port) as client:
            client.sock.settimeout(None)
            thread = threading.Thread(target=upload, args=(client,))
            thread.start()
            until(lambda: sent[0])
            settled(sent)
            served = len(backend.requests)
            assert served < 5_000
            client.sock.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def test_closed_means_closed() -> None:
    """The client helper tells an end from silence; the tests above rely on it."""
    with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as (proxy, _), Client(proxy.port) as client:
        assert client.get().status == 200
        assert client.quiet()
        client.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(Closed):
            client.fill()
