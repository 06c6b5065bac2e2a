"""Servers that are away, die, hang or fail: retries, timeouts, 502, 503, 504."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from l7fp.ir.model import HeaderEdits, Policy, RetryPolicy
from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn, Handler
from tests.e2e.proxy_under_test import Proxy, cluster, policy, route, rule, to, until
from tests.e2e.raw_client import Client


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: bound, not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def answers(*statuses: int) -> Handler:
    """Gives these statuses one after the other, over all connections; the last for ever."""
    left = list(statuses)

    def handler(conn: Conn) -> None:
        while True:
            seen = conn.read_request()
            status = left.pop(0) if len(left) > 1 else left[0]
            if status == 0:
                conn.reset()
                return
            conn.respond(seen.body or b"empty", status)

    return handler


def hang(conn: Conn) -> None:
    conn.read_request()
    conn.fill()


def retrying(port: int, *on: str, attempts: int = 2, timeout_ms: int | None = None, **more: object) -> Policy:
    retry = RetryPolicy(attempts=attempts, on=tuple(sorted(on)), **more)  # type: ignore[arg-type]
    return to(port, retry=retry, timeout_ms=timeout_ms)


POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"


def test_no_endpoint_is_a_503() -> None:
    with Proxy(policy(cluster("c"))) as proxy, Client(proxy.port) as client:
        answer = client.get()
        assert (answer.status, answer.body) == (503, b"no healthy upstream")
        assert proxy.outcomes() == {"no_healthy_upstream": 1}
        assert client.get().status == 503


def test_refused_connection_is_a_503_with_the_routes_edits(dead_port: int) -> None:
    edits = HeaderEdits(set=(("x-edit", "1"),))
    with Proxy(to(dead_port, response_headers=edits)) as proxy, Client(proxy.port) as client:
        answer = client.get()
        assert (answer.status, answer.get("x-edit")) == (503, "1")
        assert proxy.outcomes() == {"upstream_reset_before_response_started{connection_failure}": 1}


def test_dead_endpoint_is_passed_over_without_a_retry_policy(dead_port: int) -> None:
    with Backend() as alive, Proxy(policy(cluster("c", dead_port, alive.port))) as proxy, Client(proxy.port) as client:
        for _ in range(20):
            client.send(POST)
            assert client.response().json()["body"] == "hello"
        assert proxy.stats()["upstream_failures"]["connection_failure"] < 10


def test_restarted_server_is_found_again() -> None:
    with Proxy(to(1)) as proxy, Backend() as backend:
        backend.stop()
        proxy.call(lambda: proxy.server.set_policy(to(backend.port)))
        with Client(proxy.port) as client:
            assert client.get().status == 503
            backend.start()
            assert client.get().status == 200


def test_connect_that_never_completes_times_out() -> None:
    # A full accept queue: the kernel drops further SYNs.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        slow = policy(cluster("c", port))
        with Proxy(slow) as proxy, Client(proxy.port) as client:
            begin = time.monotonic()
            assert client.get().status == 503
            assert 1.5 < time.monotonic() - begin < 5
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_idle_connection_that_the_server_closed_is_not_the_clients_problem(method: str) -> None:
    def once(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"ok")
        conn.sock.close()  # without saying so

    with Backend(once) as backend, Proxy(to(backend.port)) as proxy, Client(proxy.port) as client:
        for _ in range(20):
            client.send(b"%b / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi" % method.encode())
            assert client.response().body == b"ok"
            if method == "POST":
                time.sleep(0.01)  # the FIN must have come: a POST can't be sent twice
        assert all(seen.body == b"hi" for seen in backend.requests)
        assert len(backend.requests) == 20


def test_idempotent_request_is_repeated_once_on_a_connection_that_died_under_it() -> None:
    def second_dies(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"ok")
        conn.read_request()
        if conn.number == 0:
            conn.reset()
        else:
            conn.respond(b"again")

    with Backend(second_dies) as backend, Proxy(to(backend.port)) as proxy, Client(proxy.port) as client:
        assert client.get("/1").body == b"ok"
        assert client.get("/2").body == b"ok"  # on a fresh connection
        assert [seen.target for seen in backend.requests] == ["/1", "/2", "/2"]
    with Backend(second_dies) as backend, Proxy(to(backend.port)) as proxy, Client(proxy.port) as client:
        client.send(POST)
        assert client.response().body == b"ok"
        client.send(POST)
        assert client.response().status == 503
        assert len(backend.requests) == 2


def test_reset_on_a_fresh_connection_is_a_503() -> None:
    with Backend(answers(0)) as backend, Proxy(to(backend.port)) as proxy, Client(proxy.port) as client:
        assert client.get().status == 503
        assert proxy.outcomes() == {"upstream_reset_before_response_started{connection_termination}": 1}
        assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("on", "codes", "statuses", "final", "tries"),
    [
        (("5xx",), (), (500, 502, 200), 200, 3),
        (("5xx",), (), (500, 500, 500, 200), 500, 3),
        (("gateway-error",), (), (503, 200), 200, 2),
        (("gateway-error",), (), (500, 200), 500, 1),
        (("retriable-4xx",), (), (409, 200), 200, 2),
        (("retriable-4xx",), (), (404, 200), 404, 1),
        (("retriable-status-codes",), (418,), (418, 200), 200, 2),
        (("connect-failure",), (418,), (418, 200), 418, 1),
        (("reset",), (), (0, 200), 200, 2),
        (("5xx",), (), (0, 200), 200, 2),
        (("connect-failure", "refused-stream", "unavailable"), (), (0, 200), 503, 1),
        (("reset",), (), (503, 200), 503, 1),
    ],
)
def test_retry_conditions(
    on: tuple[str, ...], codes: tuple[int, ...], statuses: tuple[int, ...], final: int, tries: int
) -> None:
    with Backend(answers(*statuses)) as backend:
        with Proxy(retrying(backend.port, *on, status_codes=codes)) as proxy, Client(proxy.port) as client:
            client.send(POST)
            assert client.response().status == final
            assert len(backend.requests) == tries
            assert {seen.body for seen in backend.requests} == {b"hello"}
            assert proxy.stats()["retries"] == tries - 1


def test_chunked_body_is_replayed() -> None:
    with Backend(answers(503, 200)) as backend, Proxy(retrying(backend.port, "5xx")) as proxy:
        with Client(proxy.port) as client:
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            client.send(b"2\r\nde\r\n0\r\n\r\n")
            assert client.response().body == b"abcde"
    assert [seen.body for seen in backend.requests] == [b"abcde", b"abcde"]


def test_body_too_large_to_keep_is_not_replayed() -> None:
    with Backend(answers(503, 200)) as backend:
        with Proxy(retrying(backend.port, "5xx"), options=Options(max_replay_body=1000)) as proxy:
            with Client(proxy.port) as client:
                client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n" + bytes(2000))
                assert client.response().status == 503
    assert len(backend.requests) == 1


def test_retry_prefers_another_endpoint() -> None:
    with Backend(answers(503)) as bad, Backend(answers(200)) as good:
        retry = RetryPolicy(attempts=1, on=("5xx",))
        both = policy(cluster("c", bad.port, good.port), rules=(rule(route("c", retry=retry)),))
        with Proxy(both) as proxy, Client(proxy.port) as client:
            assert Counter(client.get().status for _ in range(20)) == {200: 20}
    assert len(bad.requests) == 10


def test_connection_survives_a_retried_response() -> None:
    with Backend(answers(503, 503, 200)) as backend, Proxy(retrying(backend.port, "5xx")) as proxy:
        with Client(proxy.port) as client:
            assert client.get().status == 200
    assert backend.accepted == 1


def test_route_timeout_is_a_504_and_the_upstream_connection_is_dropped() -> None:
    with Backend(hang) as backend, Proxy(to(backend.port, timeout_ms=100)) as proxy, Client(proxy.port) as client:
        for _ in range(2):
            begin = time.monotonic()
            answer = client.get()
            assert (answer.status, answer.body) == (504, b"upstream request timeout")
            assert 0.09 < time.monotonic() - begin < 0.5
        assert proxy.outcomes() == {"response_timeout": 2}
        assert backend.accepted == 2


def test_route_timeout_after_the_answer_began_resets_the_client() -> None:
    def half(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        conn.fill()

    with Backend(half) as backend, Proxy(to(backend.port, timeout_ms=100)) as proxy, Client(proxy.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.reset()


def test_route_timeout_begins_with_the_end_of_the_request() -> None:
    with Backend() as backend, Proxy(to(backend.port, timeout_ms=100)) as proxy, Client(proxy.port) as client:
        client.send(POST[:-1])
        time.sleep(0.2)
        client.send(POST[-1:])
        assert client.response().status == 200


def test_per_try_timeout_is_retried_and_the_route_timeout_includes_retries() -> None:
    def first_hangs(conn: Conn) -> None:
        if conn.number == 0:
            hang(conn)
        conn.read_request()
        conn.respond(b"second")

    with Backend(first_hangs) as backend:
        with Proxy(retrying(backend.port, "5xx", per_try_timeout_ms=60)) as proxy, Client(proxy.port) as client:
            assert client.get().body == b"second"
    with Backend(hang) as backend:
        hanging = retrying(backend.port, "5xx", per_try_timeout_ms=60, attempts=100, timeout_ms=300)
        with Proxy(hanging) as proxy, Client(proxy.port) as client:
            begin = time.monotonic()
            assert client.get().status == 504
            assert 0.28 < time.monotonic() - begin < 0.8
            assert len(backend.requests) > 1
            assert proxy.outcomes() == {"response_timeout": 1}


def test_last_per_try_timeout_is_a_504() -> None:
    with Backend(hang) as backend:
        with Proxy(retrying(backend.port, "reset", per_try_timeout_ms=50, attempts=1)) as proxy:
            with Client(proxy.port) as client:
                assert client.get().status == 504
                assert proxy.outcomes() == {"upstream_per_try_timeout": 1}
    assert len(backend.requests) == 2


def test_long_answer_outlives_its_per_try_timeout() -> None:
    def slowly(conn: Conn) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
        time.sleep(0.2)
        conn.send(b"k")

    with Backend(slowly) as backend, Proxy(retrying(backend.port, "5xx", per_try_timeout_ms=60)) as proxy:
        with Client(proxy.port) as client:
            assert client.get().body == b"ok"


def test_pool_is_bounded_and_the_rest_waits_or_overflows() -> None:
    most = [0, 0]
    lock = threading.Lock()

    def counting(conn: Conn) -> None:
        while True:
            conn.read_request()
            with lock:
                most[0] += 1
                most[1] = max(most)
            time.sleep(0.02)
            with lock:
                most[0] -= 1
            conn.respond(b"ok")

    bounds = Options(pool_max_connections=2, pool_max_waiting=5)
    with Backend(counting) as backend, Proxy(to(backend.port), options=bounds) as proxy:
        clients = [Client(proxy.port) for _ in range(12)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        got = Counter(client.response().status for client in clients)
        assert most[1] <= 2
        assert backend.accepted == 2
        assert got[503] == 12 - got[200]
        assert 5 <= got[200] <= 7
        assert proxy.outcomes()["upstream_reset_before_response_started{overflow}"] == got[503]
        for client in clients:
            client.close()


def test_idle_connections_are_closed_in_time() -> None:
    ended = threading.Event()

    def handler(conn: Conn) -> None:
        conn.read_request()
        conn.respond(b"ok")
        try:
            conn.fill()
        finally:
            ended.set()

    with Backend(handler) as backend, Proxy(to(backend.port), options=Options(pool_idle_timeout_ms=100)) as proxy:
        with Client(proxy.port) as client:
            assert client.get().body == b"ok"
            assert ended.wait(5)
            assert client.get().status == 200


def test_server_killed_and_restarted_under_load_loses_no_idempotent_request() -> None:
    """Two servers, one of which comes and goes; every GET is answered 200 with the right body."""
    wrong: list[object] = []
    stop = threading.Event()

    def name(conn: Conn) -> None:
        while True:
            seen = conn.read_request()
            conn.respond(seen.target.encode())

    retry = RetryPolicy(attempts=3, on=("connect-failure", "reset"))
    with Backend(name) as stable, Backend(name) as moody:
        both = policy(cluster("c", stable.port, moody.port), rules=(rule(route("c", retry=retry)),))
        with Proxy(both) as proxy:

            def load(number: int) -> None:
                with Client(proxy.port) as client:
                    for i in range(100_000):
                        if stop.is_set():
                            return
                        target = f"/{number}/{i}"
                        answer = client.get(target)
                        if (answer.status, answer.body) != (200, target.encode()):
                            wrong.append((answer.status, answer.body, target))

            threads = [threading.Thread(target=load, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                time.sleep(0.1)
                moody.stop(reset=True)
                time.sleep(0.1)
                moody.start()
            stop.set()
            for thread in threads:
                thread.join(10)
            until(lambda: proxy.stats()["requests"]["active"] == 0)
    assert wrong == []
