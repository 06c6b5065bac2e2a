"""The HTTP/1.1 code in the kernel gives what it gives on the host: same bytes in, same result, places and bytes out."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from l7fp import abi
from l7fp.abi import Reason
from l7fp.codegen import cc
from l7fp.errors import CompileError
from l7fp.loader import libbpf, sys
from tests.properties.test_parse_host import SPEC
from tests.unit.templates import http1_kernel as wrapper
from tests.unit.templates import test_chunked_bodies, test_edits_and_replies
from tests.unit.templates.http1 import HERE, Head, Host, Outcome, Spec, compile_spec
from tests.unit.templates.http1_kernel import Kernel

REQUEST = (
    b"POST /a/b.html?v=x2&w=1 HTTP/1.1\r\nHost: foo.example:8080\r\nUser-Agent: curl/8.5.0 (x86_64; test)\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9\r\nX-User: alice\r\nVia: 1.1 front\r\n"
    b"Content-Length: 5\r\nConnection: keep-alive\r\nCookie: a=1; b=2\r\n\r\nhello"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"
    b"x-gone: 1\r\nConnection: close\r\n\r\nhello"
)
PLACES = ("flags", "head_len", "line_len", "method_len", "path_off", "path_len", "query_off", "query_len", "host_off",
          "host_len", "status", "content_length", "edits_seen", "slots_seen")  # fmt: skip
_SK_MSG_VERDICT = 7


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(SPEC) as made:
        yield made


def facts(outcome: Outcome, spec: Spec) -> tuple[object, ...]:
    head: Head = outcome.head
    if head.reason:
        return (outcome.result, Reason(head.reason))
    words = [
        abi.Bits.METHOD,
        *range(abi.Bits.FIRST_NAMED, abi.Bits.FIRST_NAMED + len(spec.headers) + len(spec.queries)),
    ]
    seen = [n for n in range(64) if head.edits_seen >> n & 1]
    return (
        outcome.result,
        [getattr(head, name) for name in PLACES],
        [head.bits[n] for n in words],
        [(head.places[n].off, head.places[n].len) for n in seen],
        (head.connection.off, head.connection.len),
    )


def damaged(message: bytes, seed: int) -> bytes:
    """`message` with a few bytes changed, lost or repeated."""
    rng = random.Random(seed)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(message))
        piece = rng.choice(
            [b"", b"\r", b"\n", b"\0", b"/", b".", b":", b" ", b"\r\n", b"X-User: b\r\n", bytes([rng.randrange(256)])]
        )
        message = message[:at] + piece + message[at + rng.randrange(2) :]
    return message[: rng.choice([len(message)] * 9 + [rng.randrange(1, len(message))])]


def test_parser_results_and_places_are_the_same(kernel: Kernel) -> None:
    host, accepted = Host(SPEC), 0
    for seed in range(1500):
        op, message = seed % 2, damaged((REQUEST, RESPONSE)[seed % 2], seed)
        if len(message) < 2:
            continue
        want, got = host.run(op, message), kernel.run(op, message)
        assert facts(got, SPEC) == facts(want, SPEC), message
        accepted += not want.result
    assert accepted > 300


def test_long_heads_are_the_same(kernel: Kernel) -> None:
    host = Host(SPEC)
    for size in range(0, wrapper.MAX_MESSAGE - 400, 37):
        message = REQUEST.replace(b"Via: ", b"Via: " + b"v" * size).replace(b"/a/", b"/" + b"p" * (size % 300) + b"/")
        assert facts(kernel.run(0, message), SPEC) == facts(host.run(0, message), SPEC)


@pytest.mark.parametrize("number", range(4))
def test_edited_requests_are_the_same(kernel: Kernel, number: int) -> None:
    host = Host(SPEC)
    for cut in (b"X-User: alice\r\n", b"Via: 1.1 front\r\n", b"", b"hello"):
        message = REQUEST.replace(cut, b"") if cut else REQUEST
        want, got = host.edit_request(message, number), kernel.run(2, message, arg=number)
        assert want.head.reason == 0
        assert (got.result, got.message) == (want.result, want.message)


@pytest.mark.parametrize("number", [4, abi.NONE])
def test_edited_responses_are_the_same(kernel: Kernel, number: int) -> None:
    want = Host(SPEC).edit_response(RESPONSE, number)
    got = kernel.run(3, RESPONSE, arg=number)
    assert (got.result, got.message) == (want.result, want.message)
    assert want.result == 0


def test_replies_are_the_same() -> None:
    spec, message = test_edits_and_replies.SPEC, test_edits_and_replies.MESSAGE
    host = Host(spec)
    with Kernel(spec) as kernel:
        for number in (0, 1, 5):
            for padding in (0, 700):
                padded = message.replace(b"/item", b"/item" + b"i" * padding)
                want, got = host.reply(padded, number), kernel.run(4, padded, arg=number)
                assert (got.result, got.message) == (want.result, want.message)
                assert want.result == 0


def test_chunked_bodies_end_where_they_do_on_the_host(kernel: Kernel) -> None:
    host = Host(SPEC)
    for body in test_chunked_bodies.BODIES:
        if len(body) > wrapper.MAX_MESSAGE:
            continue
        for end in (len(body), len(body) - 1, 1 + len(body) // 2):
            kernel.clear()
            got = kernel.run(wrapper.CHUNKED, b"\0" * 7 + body[:end], arg=7).result
            assert got == host.chunked([body[:end]])[0]


def test_both_compilers_make_programs_that_load() -> None:
    compiled = compile_spec(SPEC)
    sources = wrapper.sources(compiled)
    sources["http1_msg.bpf.c"] = (HERE / "http1_msg.bpf.c").read_text()
    loaded = 0
    for compiler in ("zig", "clang"):
        try:
            cc.find_compiler(compiler)
        except CompileError:
            continue
        for main in ("tc_test.bpf.c", "http1_msg.bpf.c"):
            with libbpf.Object(cc.compile_bpf(sources, main, compiler=compiler), name="http1") as made:
                made.load()
                loaded += 1
    assert loaded


class Wire:
    """Two ends of a TCP connection; what the first sends passes the sk_msg program."""

    def __init__(self, spec: Spec) -> None:
        compiled = compile_spec(spec)
        sources = wrapper.sources(compiled)
        sources["http1_msg.bpf.c"] = (HERE / "http1_msg.bpf.c").read_text()
        self.object = libbpf.Object(cc.compile_bpf(sources, "http1_msg.bpf.c"), name="http1_msg")
        self.object.load()
        wrapper.fill(self.object.maps, compiled)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.near = socket.create_connection(server.getsockname())
            self.far = server.accept()[0]
        self.far.settimeout(10)
        sockets, program = self.object.maps["sockets"].fd, self.object.programs["http1_msg"].fd
        sys.prog_attach(program, sockets, _SK_MSG_VERDICT)
        sys.map_update(sockets, bytes(4), struct.pack("<I", self.near.fileno()))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.far.close()
        self.object.close()

    def send(self, op: int, message: bytes, arg: int, length: int) -> tuple[int, int, bytes]:
        """The program's result, the parser's reason, and the `length` bytes that arrive."""
        order = self.object.maps["order"].fd
        sys.map_update(order, bytes(4), struct.pack("<IIiI", op, arg, -99, 0))
        self.near.sendall(message)
        got = b""
        while len(got) < length:
            got += self.far.recv(length - len(got))
        value = sys.map_lookup(order, bytes(4), 16)
        assert value
        _, _, result, reason = struct.unpack("<IIiI", value)
        return result, reason, got


def test_a_socket_sends_what_the_host_library_makes() -> None:
    """Messages of all sizes, so that some begin in one page and end in the next."""
    host = Host(SPEC)
    with Wire(SPEC) as wire:
        for n in range(600):
            op, number = ((2, n % 4), (3, (4, abi.NONE)[n % 2]))[n % 5 == 0]
            message = (REQUEST if op == 2 else RESPONSE).replace(b"text/", b"text/" + b"x" * (n * 37 % 9000))
            message += b"more body" * (n % 300)
            want = host.run(op, message, arg=number, room=len(message) + 1000)
            assert want.result == 0
            assert wire.send(op, message, number, len(want.message)) == (0, 0, want.message)


def test_a_socket_sends_replies_instead_of_requests() -> None:
    spec, message = test_edits_and_replies.SPEC, test_edits_and_replies.MESSAGE
    host = Host(spec)
    with Wire(spec) as wire:
        for n in range(300):
            number = (0, 1, 2, 5)[n % 4]
            padded = message.replace(b"Accept: ", b"Accept: " + b"a" * (n * 29 % 7000))
            want = host.reply(padded, number)
            assert wire.send(4, padded, number, len(want.message)) == (want.result, 0, want.message)


def test_a_chunked_body_is_followed_over_messages_of_any_size() -> None:
    body = test_chunked_bodies.body(*[b"d" * (n * 97 % 5000 + 1) for n in range(200)], trailers=b"x: y\r\n")
    rng = random.Random(1)
    with Wire(SPEC) as wire:
        at, result = 0, 0
        while at < len(body):
            assert result == test_chunked_bodies.MORE
            piece = body[at : at + rng.choice([1, 2, 7, 100, 5000, 60000])]
            result, _, got = wire.send(5, piece, 0, len(piece))
            assert got == piece
            at += len(piece)
        assert result == test_chunked_bodies.DONE
