"""Everything at once: many clients, all kinds of requests and responses, every answer checked."""

from __future__ import annotations

import random
import threading
import time

import pytest

from l7fp.ir.model import (
    Condition,
    Destination,
    DirectResponse,
    Field,
    FieldKind,
    Match,
    PathRewrite,
    RetryPolicy,
    RewriteKind,
    Route,
    StringKind,
    StringMatch,
)
from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn
from tests.e2e.proxy_under_test import Proxy, cluster, policy, route, rule, until
from tests.e2e.raw_client import Client, Response

SECONDS = 2.5


def moody(conn: Conn) -> None:
    """Answers with the target and the body it got, framed as it pleases."""
    rand = random.Random(conn.number)
    while True:
        seen = conn.read_request()
        body = seen.target.encode() + b"|" + seen.body
        if seen.method == "HEAD":
            conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            continue
        match rand.randrange(8):
            case 0:
                conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                return
            case 1:
                conn.respond(body, 200, "connection: close")
                return
            case 2 | 3:
                cut = rand.randrange(len(body))
                conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for piece in (body[:cut], body[cut:]):
                    if piece:
                        conn.send(b"%x;e=f\r\n%b\r\n" % (len(piece), piece))
                conn.send(b"0\r\n\r\n")
            case 4:
                conn.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
                conn.respond(body)
            case _:
                conn.respond(body)


class User:
    """Sends random requests on a connection of its own and knows what the answers must be."""

    def __init__(self, port: int, seed: int) -> None:
        self.rand = random.Random(seed)
        self.client = Client(port)
        self.name = f"u{seed}"
        self.count = 0
        self.wrong: list[object] = []

    def request(self) -> tuple[bytes, str, int, bytes]:
        """Bytes, method, expected status and body."""
        self.count += 1
        target = f"/{self.name}/{self.count}"
        kind = self.rand.randrange(9)
        if kind == 0:
            return f"GET /deny{target} HTTP/1.1\r\nhost: a\r\n\r\n".encode(), "GET", 403, b"no"
        if kind == 1:
            return f"HEAD {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode(), "HEAD", 200, b""
        if kind == 2:
            return f"GET /old{target}?q HTTP/1.1\r\nhost: a\r\n\r\n".encode(), "GET", 200, f"/new{target}?q|".encode()
        size = self.rand.choice([0, 1, 100, 5_000, 70_000, 400_000]) if self.rand.random() < 0.3 else 20
        body = self.rand.randbytes(size)
        expected = target.encode() + b"|" + body
        if kind < 6:
            head = f"POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n".encode()
            return head + body, "POST", 200, expected
        if kind == 6:
            head = f"PUT {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode()
            cut = self.rand.randrange(size + 1)
            for piece in (body[:cut], body[cut:]):
                head += b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            return head + b"0\r\n\r\n", "PUT", 200, expected
        return (
            f"GET {target} HTTP/1.1\r\nhost: a\r\nx-n: {self.count}\r\n\r\n".encode(),
            "GET",
            200,
            target.encode() + b"|",
        )

    def turn(self) -> None:
        batch = [self.request() for _ in range(self.rand.choice([1, 1, 1, 2, 5]))]
        data = b"".join(raw for raw, *_ in batch)
        sender = threading.Thread(target=self.send, args=(data,))
        sender.start()
        for raw, method, status, body in batch:
            answer: Response = self.client.response(method)
            if (answer.status, answer.body) != (status, body):
                self.wrong.append((raw[:60], answer.status, answer.body[:60], status, body[:60]))
        sender.join()

    def send(self, data: bytes) -> None:
        while data:
            n = self.rand.choice([1, 10, 100, 1_000, 1 << 20])
            self.client.send(data[:n])
            data = data[n:]
            if self.rand.random() < 0.1:
                time.sleep(0.001)

    def run(self, until_time: float) -> None:
        try:
            while time.monotonic() < until_time and not self.wrong:
                self.turn()
        except Exception as error:
            self.wrong.append(repr(error))
        finally:
            self.client.close()


def prefix(value: str) -> Match:
    return Match(conditions=(Condition(field=Field(FieldKind.PATH), any_of=(StringMatch(StringKind.PREFIX, value),)),))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_every_answer_is_the_right_one(loop: str) -> None:
    with Backend(moody) as one, Backend(moody) as two:
        rewritten = Route(
            destinations=(Destination(cluster="one", weight=3), Destination(cluster="both", weight=1)),
            path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/new"),
        )
        whole = policy(
            cluster("one", one.port),
            cluster("both", one.port, two.port),
            rules=(
                rule(DirectResponse(status=403, body="no"), prefix("/deny"), name="deny"),
                rule(rewritten, prefix("/old"), name="old"),
                # A POST that meets a connection which the server just closed can't be repeated in general; here it can.
                rule(route("both", retry=RetryPolicy(attempts=3, on=("reset",)), timeout_ms=10_000), name="rest"),
            ),
        )
        with Proxy(whole, loop=loop, options=Options(splice_at_least=50_000, max_replay_body=1 << 20)) as proxy:
            end = time.monotonic() + SECONDS
            users = [User(proxy.port, seed) for seed in range(8)]
            threads = [threading.Thread(target=user.run, args=(end,)) for user in users]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert [user.wrong for user in users if user.wrong] == []
            assert sum(user.count for user in users) > 200
            until(lambda: proxy.stats()["connections"]["active"] == 0)
            stats = proxy.stats()
            assert stats["requests"]["active"] == 0
            assert sum(stats["outcomes"].values()) == sum(user.count for user in users)
