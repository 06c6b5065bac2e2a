"""Heads: what is accepted, what it means, and that no other parser reads it differently."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpath.http1 import METHODS, Framing, Rejected, parse_request, parse_response

HOST = b"Host: a.test\r\n"


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def test_fields_keep_order_and_lose_their_case_and_outer_white_space() -> None:
    head = parse_request(request(b"HOST: a.test", b"X-B: \t 1 \t", b"x-a:2", b"X-B:", b"A: b  c"))
    assert head.headers == (("x-b", "1"), ("x-a", "2"), ("x-b", ""), ("a", "b  c"))
    assert head.seen is head.headers
    assert head.authority == "a.test"


def test_policies_see_hop_by_hop_fields_that_are_not_forwarded() -> None:
    head = parse_request(
        request(b"host: a", b"Connection: upgrade, x-n", b"x-n: 1", b"Upgrade: WebSocket", b"content-length: 07")
    )
    assert head.seen == (("connection", "upgrade, x-n"), ("upgrade", "WebSocket"), ("content-length", "07"))
    assert head.headers == ()
    assert (head.framing, head.length) == (Framing.LENGTH, 7)


def test_upgrade_needs_to_be_nominated_alone_and_without_a_body() -> None:
    def upgrade(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> str:
        return parse_request(request(b"host: a", *lines, first=first)).upgrade

    assert upgrade(b"connection: Upgrade", b"upgrade: WebSocket") == "websocket"
    assert upgrade(b"upgrade: websocket") == ""
    assert upgrade(b"connection: upgrade") == ""
    assert upgrade(b"connection: upgrade", b"upgrade: websocket", b"upgrade: h2c") == ""
    assert upgrade(b"connection: upgrade", b"upgrade: websocket", b"content-length: 1") == ""
    assert upgrade(b"connection: upgrade", b"upgrade: websocket", first=b"GET / HTTP/1.0") == ""


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close, x", False),
        ("1.1", "keep-alive", True),
        ("1.1", "keep-alive, CLOSE", False),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_keep_alive(version: str, connection: str | None, keep: bool) -> None:
    lines = [b"host: a"] + ([f"connection: {connection}".encode()] if connection else [])
    assert parse_request(request(*lines, first=f"GET / HTTP/{version}".encode())).keep_alive is keep


@pytest.mark.parametrize(
    "host", ["a", "a.test:80", "A-b_c~.x", "10.0.0.1:0", "[::1]", "[fd00::1]:8080", "0.0.0.0=5000", "a.test."]
)
def test_acceptable_hosts(host: str) -> None:
    assert parse_request(request(b"host: " + host.encode())).authority == host


@pytest.mark.parametrize(
    "host",
    ["", "a:", "a:x", "a:123456", "u@a", "a/b", "a b", "a,b", "[::1", "::1", "a:1:2", "a%41", "ä", "a\\b", "a?b"],
)
def test_unacceptable_hosts(host: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_request(request(b"host: " + host.encode()))
    assert (caught.value.status, caught.value.code) == (400, "invalid_host")


@pytest.mark.parametrize(
    ("target", "path", "authority"),
    [
        ("http://b.test/x?y", "/x?y", "b.test"),
        ("http://b.test:81", "/", "b.test:81"),
        ("http://b.test?q", "/?q", "b.test"),
        ("hTTp://u:p@b.test/", "/", "b.test"),
        ("http://x@y@b.test/", "/", "b.test"),
        ("http://b.test/@c", "/@c", "b.test"),
    ],
)
def test_absolute_targets(target: str, path: str, authority: str) -> None:
    head = parse_request(request(b"host: a", first=f"GET {target} HTTP/1.1".encode()))
    assert (head.target, head.authority) == (path, authority)


@pytest.mark.parametrize(
    "target", ["http://", "http:///x", "http:/b", "ftp://b/", "//b", "*", "b:80", "http://[x]/", "?"]
)
def test_targets_that_name_no_resource(target: str) -> None:
    first = f"GET {target} HTTP/1.1".encode()
    if target.startswith("/"):
        assert parse_request(request(b"host: a", first=first)).target == target
        return
    with pytest.raises(Rejected):
        parse_request(request(b"host: a", first=first))


def test_asterisk_is_for_options() -> None:
    assert parse_request(request(b"host: a", first=b"OPTIONS * HTTP/1.1")).target == "*"
    assert parse_request(request(b"host: a", first=b"OPTIONS http://b HTTP/1.1")).target == "*"


def test_size_counts_the_whole_head() -> None:
    raw = request(b"host: a", b"x: y")
    assert parse_request(raw).size == len(raw)


@pytest.mark.parametrize(
    ("raw", "framing", "length", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Framing.LENGTH, 5, True),
        (b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n", Framing.CHUNKED, -1, True),
        (b"HTTP/1.1 200 \r\n\r\n", Framing.EOF, -1, True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Framing.LENGTH, 5, False),
        (b"HTTP/1.1 599 \xfcgly\r\nconnection: close\r\n\r\n", Framing.EOF, -1, False),
    ],
)
def test_responses(raw: bytes, framing: Framing, length: int, keep: bool) -> None:
    head = parse_response(raw)
    assert (head.framing, head.length, head.keep_alive) == (framing, length, keep)


@pytest.mark.parametrize(
    ("status", "is_head", "framing"),
    [
        (200, False, Framing.LENGTH),
        (200, True, Framing.NONE),
        (204, False, Framing.NONE),
        (304, False, Framing.NONE),
        (103, False, Framing.NONE),
        (205, False, Framing.LENGTH),
    ],
)
def test_body_of_a_response(status: int, is_head: bool, framing: Framing) -> None:
    head = parse_response(b"HTTP/1.1 %d X\r\ncontent-length: 3\r\n\r\n" % status)
    assert head.body_of(is_head=is_head) is framing


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 20 X\r\n\r\n",
        b"HTTP/1.1 2000 X\r\n\r\n",
        b"HTTP/2.0 200 X\r\n\r\n",
        b"http/1.1 200 X\r\n\r\n",
        b"HTTP/1.1  200 X\r\n\r\n",
        b"HTTP/1.1 200 X\n\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.0 200 X\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 X\r\nx : y\r\n\r\n",
    ],
)
def test_unacceptable_responses(raw: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        parse_response(raw)
    assert caught.value.status == 502


# --- against other parsers ----------------------------------------------------------------------

_NAMES = [
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b"x_b", b"Content_Length", b"Expect",
    b"Transfer-Encoding ", b" Transfer-Encoding", b"Content-Length\t", b"", b"a@b",
]  # fmt: skip
_VALUES = [
    b"a", b"a.test:80", b"5", b"05", b"5, 5", b"+5", b"0x5", b" 5", b"5 ", b"\t5", b"chunked", b"Chunked", b"chunked ",
    b"\tchunked", b"xchunked", b"chunked, identity", b"identity", b"chunked\x0b", b"close", b"keep-alive", b"", b"\xff",
    b"a\rb", b"a\nb", b"a\x00b", b"a\r\n b", b"100-continue", b"18446744073709551621",
]  # fmt: skip
_FIRST = [
    b"GET / HTTP/1.1", b"POST /x?y HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ",
    b"GET / http/1.1", b"GET /\x01 HTTP/1.1", b"get / HTTP/1.1", b"GET http://a/ HTTP/1.1", b"GET /\tx HTTP/1.1",
]  # fmt: skip
_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\x00\r\n"]
_GOOD = [b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Connection: close", b"X-A: 1"]
_LINE = st.tuples(st.sampled_from(_NAMES), st.sampled_from([b":", b": ", b" :", b":\t"]), st.sampled_from(_VALUES))


def test_generated_heads_are_of_both_kinds() -> None:
    """The comparisons below would say nothing if all heads were refused, or none."""
    verdicts = set()

    @given(ugly())
    @settings(max_examples=300, deadline=None, database=None)
    def collect(raw: bytes) -> None:
        try:
            verdicts.add(parse_request(raw).framing)
        except Rejected as error:
            verdicts.add(error.code)

    collect()
    assert {Framing.NONE, Framing.LENGTH, Framing.CHUNKED} <= verdicts
    assert len(verdicts) > 6


@st.composite
def ugly(draw: st.DrawFn) -> bytes:
    """Heads between plain and smuggling: good lines, and at most two things wrong."""
    lines = [b"Host: a", *draw(st.lists(st.sampled_from(_GOOD), max_size=3))]
    for line in draw(st.lists(_LINE, max_size=1)):
        lines.insert(draw(st.integers(0, len(lines))), b"".join(line))
    ends = [b"\r\n"] * len(lines)
    if draw(st.integers(0, 3)) == 0:
        ends[draw(st.integers(0, len(ends) - 1))] = draw(st.sampled_from(_ENDS))
    first = draw(st.sampled_from(_FIRST)) if draw(st.booleans()) else b"POST / HTTP/1.1"
    return first + b"\r\n" + b"".join(line + end for line, end in zip(lines, ends, strict=True)) + b"\r\n"


@given(ugly())
@settings(max_examples=600, deadline=None)
def test_what_is_accepted_h11_reads_the_same_way(raw: bytes) -> None:
    try:
        ours = parse_request(raw)
    except Rejected:
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(raw)
    if any(name == "content-length" and value.startswith("0") for name, value in ours.seen):
        return
    event = theirs.next_event()
    assert isinstance(event, h11.Request)
    fields = {name.decode().lower() for name, _ in event.headers}
    assert ("transfer-encoding" in fields) == (ours.framing is Framing.CHUNKED)
    lengths = [value for name, value in event.headers if name == b"content-length"]
    assert lengths == ([str(ours.length).encode()] if ours.framing is Framing.LENGTH else [])
    assert theirs.trailing_data[0] == b""


@given(ugly())
@settings(max_examples=600, deadline=None)
def test_what_is_accepted_llhttp_reads_the_same_way(raw: bytes) -> None:
    httptools = pytest.importorskip("httptools")
    try:
        ours = parse_request(raw)
    except Rejected:
        return

    class Events:
        complete = False
        body = b""

        def on_message_complete(self) -> None:
            self.complete = True

        def on_body(self, data: bytes) -> None:
            self.body += data

    events = Events()
    parser = httptools.HttpRequestParser(events)
    body = b"5\r\nhello\r\n0\r\n\r\n" if ours.framing is Framing.CHUNKED else b"x" * min(ours.length, 100)
    parser.feed_data(raw + body)
    assert parser.get_method() == ours.method.encode()
    assert events.complete == (ours.length <= 100)
    assert events.body == (b"hello" if ours.framing is Framing.CHUNKED else body)


def test_methods_are_upper_case_tokens() -> None:
    assert all(method.isupper() for method in METHODS)
