"""Small parts: memo, balancing order, retry conditions, deadlines, splice."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from l7fp.ir.model import Cluster, Endpoint, LoadBalancer, RetryPolicy
from slowpath.balance import Balancer, turns
from slowpath.connect import TcpConnector
from slowpath.deadlines import Deadlines
from slowpath.interfaces import DEFAULT_OPTIONS
from slowpath.memo import Memo
from slowpath.pool import Pool
from slowpath.retry import Failure, Retries, backoff_ms
from slowpath.splice import Splice
from tests.e2e.proxy_under_test import tcp_pair


def test_memo_keeps_what_is_used_and_is_bounded() -> None:
    memo: Memo[int, int] = Memo(10)
    for i in range(1000):
        memo.put(i, i)
        assert memo.get(0) == (0 if i < 1000 else None)
        assert len(memo) <= 20
    assert memo.get(1) is None
    assert memo.get(999) == 999


@pytest.mark.parametrize(
    ("weights", "order"), [([1], [0]), ([1, 1], [0, 1]), ([2, 1], [0, 1, 0]), ([20, 10], [0, 1, 0]), ([1, 0], [0])]
)
def test_turns(weights: list[int], order: list[int]) -> None:
    assert turns(weights) == order


def test_turns_of_huge_weights_are_bounded_and_leave_nobody_out() -> None:
    order = turns([1_000_003, 1])
    assert len(order) < 5000
    assert set(order) == {0, 1}


def test_blocked_and_tried_hosts_are_passed_over_while_others_are_left() -> None:
    async def work() -> None:
        now = [0.0]
        endpoints = tuple(Endpoint(address="127.0.0.1", port=p) for p in (1, 2, 3))
        pools = {e.port: Pool(e, TcpConnector(), DEFAULT_OPTIONS) for e in endpoints}
        cluster = Cluster(name="c", host="c", port=80, endpoints=endpoints, load_balancer=LoadBalancer.RANDOM)
        balancer = Balancer(cluster, lambda e: pools[e.port], lambda: now[0], random.Random(1))
        pools[2]._blocked_until = 1.0
        picked = [balancer.pick() for _ in range(50)]
        assert {host.endpoint.port for host in picked if host} == {1, 3}
        first = next(h for h in picked if h and h.endpoint.port == 1)
        third = next(h for h in picked if h and h.endpoint.port == 3)
        again = balancer.pick([first])
        assert again is third
        last = balancer.pick([first, third])
        assert last is not None
        assert last.endpoint.port == 2  # better than one that was tried
        now[0] = 2.0
        assert {h.endpoint.port for h in (balancer.pick() for _ in range(50)) if h} == {1, 2, 3}

    asyncio.run(work())


def test_no_policy_no_retries() -> None:
    assert Retries.of(None) is None
    assert Retries.of(RetryPolicy(attempts=0, on=("5xx",))) is None


@pytest.mark.parametrize(
    ("word", "statuses", "failures"),
    [
        ("5xx", {500, 502, 503, 504, 599}, set(Failure)),
        ("gateway-error", {502, 503, 504}, set(Failure)),
        ("retriable-4xx", {409}, set()),
        ("reset", set(), {Failure.CONNECT, Failure.RESET, Failure.PROTOCOL, Failure.TIMEOUT}),
        ("connect-failure", set(), {Failure.CONNECT}),
        ("refused-stream", set(), set()),
        ("unavailable", set(), set()),
        ("retriable-status-codes", {418}, set()),
    ],
)
def test_retry_words(word: str, statuses: set[int], failures: set[Failure]) -> None:
    retries = Retries.of(RetryPolicy(attempts=1, on=(word,), status_codes=(418,)))
    assert retries is not None
    assert {s for s in (200, 404, 409, 418, 500, 502, 503, 504, 599) if retries.on_status(s)} == statuses
    assert {f for f in Failure if retries.on_failure(f)} == failures


def test_backoff_is_jittered_and_bounded() -> None:
    rand = random.Random(7)
    for retry, limit in ((1, 25), (2, 75), (3, 175), (4, 250), (60, 250)):
        drawn = [backoff_ms(retry, rand) for _ in range(500)]
        assert 0 <= min(drawn) < limit * 0.1
        assert limit * 0.9 < max(drawn) <= limit


def test_deadlines_fire_once_and_only_if_not_forgotten() -> None:
    class Timed:
        def __init__(self, deadline: float) -> None:
            self.deadline = deadline
            self.fired: list[float] = []

        def expired(self, now: float) -> None:
            self.fired.append(now)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        begin = loop.time()
        soon, later, never = Timed(begin + 0.03), Timed(begin + 0.06), Timed(begin + 0.03)
        for timed in (soon, later, never):
            deadlines.watch(timed)
        deadlines.forget(never)
        await asyncio.sleep(0.12)
        assert len(soon.fired) == len(later.fired) == 1
        assert never.fired == []
        assert soon.deadline <= soon.fired[0] < soon.deadline + 0.03

    asyncio.run(work())


@pytest.mark.parametrize("left", [1, 300_000, None])
def test_splice_moves_exactly_what_it_should(left: int | None) -> None:
    async def work() -> None:
        sender, source = tcp_pair()
        target, receiver = tcp_pair()
        source.setblocking(False)
        target.setblocking(False)
        data = bytes(range(256)) * 2000
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        written: list[tuple[int, bool]] = []
        splice = Splice(
            asyncio.get_running_loop(),
            source,
            target,
            left,
            before_write=lambda n, last: written.append((n, last)),
            on_done=done.set_result,
        )

        def send() -> None:
            sender.sendall(data)
            if left is None:
                sender.shutdown(1)

        thread = threading.Thread(target=send)
        thread.start()
        expected = data if left is None else data[:left]
        got = b""
        while len(got) < len(expected):
            got += await asyncio.to_thread(receiver.recv, 1 << 16)
        assert await asyncio.wait_for(done, 5)
        thread.join()
        assert got == expected
        assert splice.moved == len(expected)
        assert sum(n for n, _ in written) == len(expected)
        assert [last for _, last in written].count(True) == (0 if left is None else 1)
        for sock in (sender, source, target, receiver):
            sock.close()

    asyncio.run(work())


def test_splice_fails_when_its_source_ends_early() -> None:
    async def work() -> None:
        sender, source = tcp_pair()
        target, receiver = tcp_pair()
        source.setblocking(False)
        target.setblocking(False)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        Splice(
            asyncio.get_running_loop(), source, target, 10, before_write=lambda n, last: None, on_done=done.set_result
        )
        sender.sendall(b"abc")
        sender.close()
        assert not await asyncio.wait_for(done, 5)
        assert receiver.recv(10) == b"abc"
        for sock in (source, target, receiver):
            sock.close()

    asyncio.run(work())
