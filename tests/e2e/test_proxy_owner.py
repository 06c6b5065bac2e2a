"""What the proxy promises the owner of its connections: the byte account, and the kernel's transactions."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from l7fp.ir.model import DirectResponse, HeaderEdits
from slowpath.client import ClientConnection
from slowpath.interfaces import Options
from tests.e2e.backend import Backend, Conn
from tests.e2e.proxy_under_test import Proxy, policy, rule, tcp_pair, to, until
from tests.e2e.raw_client import Client, Closed

LOOPS = ["uvloop", "asyncio"]


class Account:
    """A `Ledger` that notes everything, and pretends to be busy when told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.busy = False
        self.callbacks: list[Callable[[], None]] = []

    def promise(self, n: int) -> None:
        self.events.append(("promise", n))

    def settle(self, n: int) -> None:
        self.events.append(("settle", n))

    def fast_busy(self) -> bool:
        return self.busy

    def on_fast_idle(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def idle(self) -> None:
        self.busy = False
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    def total(self, kind: str) -> int:
        return sum(n for k, n in self.events if k == kind)


class Recorder:
    """Stands before a transport and notes writes in the account's order."""

    def __init__(self, transport: object, account: Account) -> None:
        self._transport = transport
        self._account = account

    def write(self, data: bytes) -> None:
        self._account.events.append(("write", len(data)))
        self._transport.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def recording(proxy: Proxy) -> Account:
    """The last accepted connection's account, with writes noted from now on."""
    until(lambda: proxy.clients and proxy.clients[-1].transport is not None)
    account = proxy.ledgers[-1]
    assert isinstance(account, Account)

    def wrap() -> None:
        handle = proxy.clients[-1]
        handle.transport = Recorder(handle.transport, account)  # type: ignore[assignment]

    proxy.call(wrap)
    return account


def check(account: Account) -> None:
    """Every byte is promised before it is written, and each request settled before its last bytes are."""
    promised = written = 0
    for kind, n in account.events:
        promised += n if kind == "promise" else 0
        written += n if kind == "write" else 0
        assert written <= promised
        assert kind != "settle" or written < promised, "settled after the last byte was written"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def varied(conn: Conn) -> None:
    """Answers in every framing, by target."""
    while True:
        seen = conn.read_request()
        match seen.target:
            case "/chunked":
                conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
                time.sleep(0.01)
                conn.send(b"0\r\n\r\n")
            case "/eof":
                conn.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
                return
            case "/hints":
                conn.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            case "/large":
                conn.respond(bytes(2_000_000))
            case _:
                conn.respond(b"ok")


def test_account_is_exact_over_all_kinds_of_exchanges(loop: str) -> None:
    requests = [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\nGET /again HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nt: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
        b"GET /chunked HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /eof HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /hints HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000),
    ]
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        with Client(proxy.port) as client:
            account = recording(proxy)
            for raw in requests:
                before = account.total("settle")
                client.send(raw)
                assert client.response().status == 200
                # By the time the client has the whole answer the request is settled, no earlier and no more.
                assert account.total("settle") - before == len(raw)


def test_pipelined_requests_settle_one_by_one(loop: str) -> None:
    raw = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        with Client(proxy.port) as client:
            account = recording(proxy)
            client.send(raw * 5 + raw[:10])
            for _ in range(5):
                client.response()
            assert [n for kind, n in account.events if kind == "settle"] == [len(raw)] * 5
            check(account)


def test_promised_bytes_are_exactly_those_received(loop: str) -> None:
    targets = [b"/", b"/large", b"/chunked", b"/eof", b"/hints", b"/large"]
    requests = [b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % target for target in targets]
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        with Client(proxy.port) as client:
            account = recording(proxy)
            client.send(b"".join(requests))
            got = 0
            while account.total("settle") < len(b"".join(requests)) or got < account.total("promise"):
                got += len(client.sock.recv(1 << 20))
            assert client.quiet()
            assert got == account.total("promise")


def test_request_that_ends_after_its_answer_is_settled_only_then(loop: str) -> None:
    def early(conn: Conn) -> None:
        conn.read_head()
        conn.respond(b"early")
        conn.fill()

    raw = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n"
    with Backend(early) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        with Client(proxy.port) as client:
            account = recording(proxy)
            client.send(raw + bytes(10))
            assert client.response().body == b"early"
            assert account.total("settle") == 0
            client.send(bytes(20))
            until(lambda: account.total("settle"))
            assert account.total("settle") == len(raw) + 30


def test_connection_that_will_close_is_never_settled(loop: str) -> None:
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        for raw in (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            with Client(proxy.port) as client:
                account = recording(proxy)
                client.send(raw)
                client.response()
                assert client.closed()
                assert account.total("settle") == 0


def test_nothing_is_answered_or_forwarded_while_the_kernel_is_busy(loop: str) -> None:
    denial = policy(rules=(rule(DirectResponse(status=403)),))
    with Proxy(denial, loop=loop, ledger=Account) as proxy, Client(proxy.port) as client:
        account = recording(proxy)
        account.busy = True
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
        assert client.quiet()
        assert len(account.callbacks) == 1
        proxy.call(account.idle)
        assert [client.response().status, client.response().status] == [403, 403]


def test_half_closed_client_stays_until_the_kernel_is_done(loop: str) -> None:
    with Proxy(to(1), loop=loop, ledger=Account) as proxy, Client(proxy.port) as client:
        account = recording(proxy)
        ends: list[str] = []
        proxy.clients[-1].on_eof = lambda: ends.append("eof")
        proxy.clients[-1].on_closed = lambda: ends.append("closed")
        account.busy = True
        client.sock.shutdown(socket.SHUT_WR)
        assert client.quiet()
        assert ends == ["eof"]
        assert proxy.call(lambda: proxy.clients[-1].reply_now(503, "gone"))
        assert client.response().status == 503
        proxy.call(account.idle)
        with pytest.raises(Closed):
            client.fill()
        until(lambda: ends == ["eof", "closed"])


# --- the kernel's transactions ------------------------------------------------------------------


class Adoption:
    """A client connection whose request the kernel took to `server`; the proxy gets the answer."""

    def __init__(self, proxy: Proxy, client: Client) -> None:
        self.proxy = proxy
        self.client = client
        self.account = recording(proxy)
        self.account.busy = True
        self.server, self.upstream = tcp_pair()
        self.upstream.setblocking(False)
        self.done: list[bool] = []

    @property
    def handle(self) -> ClientConnection:
        return self.proxy.clients[-1]

    def relay(
        self, *, is_head: bool = False, edits: tuple[HeaderEdits, ...] = (), timeout_ms: int | None = None
    ) -> bool:
        return self.proxy.call(
            lambda: self.handle.relay_response(
                self.upstream, is_head=is_head, edits=edits, on_done=self._done, timeout_ms=timeout_ms
            )
        )

    def _done(self, reusable: bool) -> None:
        self.done.append(reusable)
        self.account.idle()

    def close(self) -> None:
        self.server.close()
        self.upstream.close()


@pytest.fixture
def adoption(loop: str) -> Iterator[Adoption]:
    with Proxy(to(1), loop=loop, ledger=Account, options=Options(splice_at_least=100_000)) as proxy:
        with Client(proxy.port) as client:
            made = Adoption(proxy, client)
            yield made
            made.close()


@pytest.mark.parametrize(
    ("raw", "ends", "body", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", False, b"ok", True),
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", False, b"ok", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False, b"ok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False, b"ok", False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", True, b"ok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1", False, b"ok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000), False, bytes(1_000_000), True),
    ],
    ids=["length", "1xx", "chunked", "close", "1.0", "eof", "excess", "large"],
)
def test_adopted_response(adoption: Adoption, raw: bytes, ends: bool, body: bytes, reusable: bool) -> None:
    assert adoption.relay()
    sender = threading.Thread(target=adoption.server.sendall, args=(raw,))
    sender.start()
    if ends:
        sender.join()
        adoption.server.shutdown(socket.SHUT_WR)
    assert adoption.client.response().body == body
    sender.join()
    until(lambda: adoption.done == [reusable])
    assert adoption.account.total("settle") == 0
    # The owner's socket is still open, and the client's connection usable.
    assert adoption.upstream.fileno() >= 0
    assert adoption.client.get().status == 503
    if reusable:
        adoption.server.sendall(b"next")
        adoption.upstream.settimeout(5)
        assert adoption.upstream.recv(10) == b"next"


def test_adopted_response_to_head_with_edits(adoption: Adoption) -> None:
    adoption.relay(is_head=True, edits=(HeaderEdits(set=(("x-a", "1"),)), HeaderEdits(remove=("x-b",))))
    adoption.server.sendall(b"HTTP/1.1 200 OK\r\nx-b: 1\r\ncontent-length: 7\r\n\r\n")
    answer = adoption.client.response("HEAD")
    assert answer.headers == [("x-a", "1"), ("content-length", "7")]
    until(lambda: adoption.done == [True])


def test_requests_that_came_meanwhile_wait_for_the_adopted_response(adoption: Adoption) -> None:
    adoption.relay()
    adoption.client.send(b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n")
    adoption.server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
    assert adoption.client.head()[0] == 200
    assert adoption.client.exactly(1) == b"o"
    assert adoption.client.quiet()
    adoption.server.sendall(b"k")
    assert adoption.client.exactly(1) == b"k"
    assert adoption.client.response().status == 503


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200"], ids=["nothing", "half a head"])
def test_adopted_response_that_never_comes_is_a_503(adoption: Adoption, raw: bytes) -> None:
    adoption.relay()
    adoption.server.sendall(raw)
    adoption.server.close()
    assert adoption.client.response().status == 503
    until(lambda: adoption.done == [False])
    assert adoption.client.get().status == 503


def test_answers_for_the_kernel_fit_a_head_request_too(adoption: Adoption) -> None:
    assert adoption.proxy.call(lambda: adoption.handle.reply_now(504, "response_timeout"))
    answer = adoption.client.response("HEAD")
    assert (answer.status, answer.get("content-length")) == (504, "0")
    adoption.relay(is_head=True)
    adoption.server.close()
    assert adoption.client.response("HEAD").status == 503
    assert adoption.client.quiet()


def test_adopted_nonsense_is_a_502(adoption: Adoption) -> None:
    adoption.relay()
    adoption.server.sendall(b"HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n")
    assert adoption.client.response().status == 502
    until(lambda: adoption.done == [False])


def test_adopted_response_in_time_or_504(adoption: Adoption) -> None:
    adoption.relay(timeout_ms=60)
    assert adoption.client.response().status == 504
    until(lambda: adoption.done == [False])


def test_truncated_adopted_response_resets_the_client(adoption: Adoption) -> None:
    adoption.relay()
    adoption.server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    adoption.server.close()
    assert adoption.client.reset()
    until(lambda: adoption.done == [False])


def test_client_that_leaves_during_an_adopted_response(adoption: Adoption) -> None:
    adoption.relay()
    adoption.server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\nabc")
    adoption.client.head()
    adoption.proxy.call(adoption.handle.abort)
    until(lambda: adoption.done == [False])
    assert not adoption.proxy.call(lambda: adoption.handle.reply_now(503, "x"))
    assert not adoption.relay()


@pytest.mark.parametrize("size", [1, 5_000, 3_000_000])
def test_raw_relay_copies_until_the_total_is_known_and_reached(adoption: Adoption, size: int) -> None:
    total: list[int | None] = [None]
    data = bytes(range(250)) * (size // 250 + 1)
    data = data[:size]
    assert adoption.proxy.call(
        lambda: adoption.handle.relay_raw(adoption.upstream, total=lambda: total[0], on_done=adoption._done)
    )
    sender = threading.Thread(target=adoption.server.sendall, args=(data,))
    sender.start()
    assert adoption.client.exactly(size) == data
    sender.join()
    assert adoption.done == []
    total[0] = size
    adoption.proxy.call(adoption.handle.poke)
    until(lambda: adoption.done == [True])
    assert adoption.account.total("promise") == size
    assert adoption.client.get().status == 503
    adoption.server.sendall(b"next")
    adoption.upstream.settimeout(5)
    assert adoption.upstream.recv(10) == b"next"


def test_raw_relay_that_is_complete_from_the_start(adoption: Adoption) -> None:
    adoption.proxy.call(lambda: adoption.handle.relay_raw(adoption.upstream, total=lambda: 0, on_done=adoption._done))
    until(lambda: adoption.done == [True])


def test_raw_relay_whose_server_leaves_early_resets_the_client(adoption: Adoption) -> None:
    adoption.proxy.call(
        lambda: adoption.handle.relay_raw(adoption.upstream, total=lambda: None, on_done=adoption._done)
    )
    adoption.server.sendall(b"abc")
    assert adoption.client.exactly(3) == b"abc"
    adoption.server.close()
    assert adoption.client.reset()
    until(lambda: adoption.done == [False])


def test_owner_may_abort_and_close(loop: str) -> None:
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop) as proxy:
        with Client(proxy.port) as client:
            client.get()
            proxy.call(proxy.clients[-1].abort)
            assert client.reset()
        with Client(proxy.port) as client:
            client.get()
            proxy.call(proxy.clients[-1].close)
            assert client.closed()
        assert proxy.stats()["connections"] == {"active": 0, "total": 2}


def test_close_lets_the_request_under_way_end(loop: str) -> None:
    with Backend(varied) as backend, Proxy(to(backend.port), loop=loop, ledger=Account) as proxy:
        with Client(proxy.port) as client:
            account = recording(proxy)
            client.send(b"GET /chunked HTTP/1.1\r\nhost: a\r\n\r\n")
            client.head()
            proxy.call(proxy.clients[-1].close)
            client.buffer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + client.buffer
            assert client.response().body == b"abc"
            assert client.closed()
            assert account.total("settle") == 0
