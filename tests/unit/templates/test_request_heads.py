"""What the kernel's request parser accepts and why it leaves the rest, row by row of the desync vectors."""

from __future__ import annotations

import pytest

from l7fp import abi
from l7fp.abi import Bits, Reason
from tests.unit.templates.http1 import FLAG_IS_HEAD, FLAG_NO_BODY, Host, Spec, exact, prefix

SPEC = Spec(
    headers={"x-user": [exact("bob"), prefix("al")], "x-here": []},
    queries={"v": [exact("1"), prefix("x")], "flag": []},
    methods=[exact("GET"), exact("POST")],
    edited=["x-cut", "via"],
)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(SPEC)


def request(line: str = "GET / HTTP/1.1", *headers: str, host: str | None = "Host: a.example", end: str = "") -> bytes:
    lines = [line, *([host] if host is not None else []), *headers]
    return ("".join(f"{text}\r\n" for text in lines) + "\r\n" + end).encode("latin-1")


def test_all_fields_of_an_accepted_request_have_their_places(host: Host) -> None:
    message = request("POST /a/b.html?v=1&w=2 HTTP/1.1", "Content-Length: 12", "X-User: bob", end="hello")
    got = host.request(message)
    assert got.reason is Reason.NONE
    assert got.head.head_len == len(message) - 5
    assert message[: got.head.line_len] == b"POST /a/b.html?v=1&w=2 HTTP/1.1\r\n"
    assert message[: got.head.method_len] == b"POST"
    assert got.text(message, "path") == b"/a/b.html"
    assert got.text(message, "query") == b"?v=1&w=2"
    assert got.text(message, "host") == b"a.example"
    assert got.head.content_length == 12
    assert got.head.bits[Bits.METHOD] == 0b10


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/",
        "/.well-known/x",
        "/...",
        "/..a",
        "/a.",
        "/a..b/",
        "/-._~!$&'()*+,=:@",
        "/" + "x" * 4000,
    ],
)
def test_a_plain_path_is_accepted(host: Host, path: str) -> None:
    message = request(f"GET {path} HTTP/1.1")
    got = host.request(message)
    assert got.reason is Reason.NONE
    assert got.text(message, "path") == path.encode()


@pytest.mark.parametrize(
    "path",
    [
        "//", "/a//b", "/.", "/..", "/./a", "/a/.", "/a/..", "/a/../b", "/a/./b", "/a/..?x", "/a/.?x",
        "/%61", "/%2F", "/%00", "/a\\b", "\\a", "/a;b", "/a#f", "/a?b#f", "/aaaaaa/./b", "/aaaaaaa//b", "/aaaaaaa/../b",
    ],
)  # fmt: skip
def test_a_path_that_normalisation_may_change_is_left(host: Host, path: str) -> None:
    want = Reason.SYNTAX if path.startswith("\\") else Reason.PATH_UNSAFE
    assert host.request(request(f"GET {path} HTTP/1.1")).reason is want


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("unsafe", ["//", "/./", "/../", "\x80", *'"%;<>[\\]^`{|}'])
def test_unsafe_path_bytes_are_found_at_every_place_in_a_word(host: Host, offset: int, unsafe: str) -> None:
    got = host.request(request(f"GET /{'a' * offset}{unsafe}bbbbbbbbb HTTP/1.1"))
    assert got.reason is Reason.PATH_UNSAFE


@pytest.mark.parametrize("query", ["?", "?a=%2f", "?a=b/../c", "?a//b", "?a;b\\c", "?a?b"])
def test_a_query_is_not_a_path(host: Host, query: str) -> None:
    message = request(f"GET /a{query} HTTP/1.1")
    got = host.request(message)
    assert got.reason is Reason.NONE
    assert (got.text(message, "path"), got.text(message, "query")) == (b"/a", query.encode())


@pytest.mark.parametrize(
    "line",
    [
        "GET http://a.example/ HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT a.example:80 HTTP/1.1", "GET / HTTP/1.0",
        "GET / HTTP/2.0", "GET / http/1.1", "GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ",
        " GET / HTTP/1.1", "get / HTTP/1.1", "G3T / HTTP/1.1", "GET\t/ HTTP/1.1", "GET /\t HTTP/1.1", " / HTTP/1.1",
        "GET /a\x00b HTTP/1.1", "GET /a\rb HTTP/1.1", "GET / HTTP/1.1\n", "\r\nGET / HTTP/1.1", "GET /a b HTTP/1.1",
        f"{'A' * 32} / HTTP/1.1", "PRI * HTTP/2.0",
    ],
)  # fmt: skip
def test_an_unusual_request_line_is_left(host: Host, line: str) -> None:
    assert host.request(request(line)).reason is Reason.SYNTAX


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_methods_that_every_server_knows_are_accepted(host: Host, method: str) -> None:
    assert host.request(request(f"{method} / HTTP/1.1")).reason is Reason.NONE


@pytest.mark.parametrize(
    "method", ["TRACE", "CONNECT", "MKCOL", "MKCOLA", "GETS", "get", "Get", "PROPFIND", "A" * 31, "A" * 99]
)
def test_other_methods_take_the_slow_path(host: Host, method: str) -> None:
    assert host.request(request(f"{method} / HTTP/1.1")).reason is Reason.SYNTAX


@pytest.mark.parametrize(
    "value",
    ["a", "a.example", "A.Example:8080", "a_b", "1.2.3.4", "[::1]", "[::1]:8080", "a:1", "a:65535", "b" * 200],
)  # fmt: skip
def test_a_plain_host_is_accepted(host: Host, value: str) -> None:
    message = request(host=f"Host: {value}")
    got = host.request(message)
    assert got.reason is Reason.NONE
    assert got.text(message, "host") == value.encode()


@pytest.mark.parametrize(
    "value",
    ["", "a.", "a.:80", "a:", "a:http", "a:123456", "u@a", "a/b", "a,b", "a b", "a ", "%61", "[::1", "[::1]x", "[z]",
     "::1", "a?b", "a#b", "[::1]:", "\ta"],
)  # fmt: skip
def test_any_other_host_is_left(host: Host, value: str) -> None:
    assert host.request(request(host=f"Host: {value}")).reason is Reason.SYNTAX


def test_exactly_one_host_is_wanted(host: Host) -> None:
    assert host.request(request(host=None)).reason is Reason.SYNTAX
    assert host.request(request("GET / HTTP/1.1", "host: a.example")).reason is Reason.SYNTAX


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), ("9007199254740991", (1 << 53) - 1)])
def test_a_plain_content_length_is_accepted(host: Host, text: str, value: int) -> None:
    got = host.request(request("POST / HTTP/1.1", f"Content-Length: {text}"))
    assert (got.reason, got.head.content_length) == (Reason.NONE, value)


@pytest.mark.parametrize(
    "text",
    ["", "00", "05", "+5", "-5", "5,5", "5, 5", "5 ", " 5", "\t5", "0x5", "5a", "5.0", "9007199254740992",
     "9223372036854775808", "18446744073709551621", "10000000000000000"],
)  # fmt: skip
def test_any_other_content_length_is_left(host: Host, text: str) -> None:
    assert host.request(request("POST / HTTP/1.1", f"Content-Length: {text}")).reason is Reason.SYNTAX


def test_a_second_content_length_is_left_even_when_equal(host: Host) -> None:
    assert host.request(request("POST / HTTP/1.1", "Content-Length: 5", "content-length: 5")).reason is Reason.SYNTAX


@pytest.mark.parametrize(
    "value", ["chunked", "Chunked", "xchunked", "chunked, identity", "identity", "chunked ", "gzip, chunked"]
)
@pytest.mark.parametrize("length", [(), ("Content-Length: 5",)])
def test_every_transfer_encoding_is_left(host: Host, value: str, length: tuple[str, ...]) -> None:
    got = host.request(request("POST / HTTP/1.1", *length, f"Transfer-Encoding: {value}"))
    assert got.reason is Reason.TRANSFER_ENCODING


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_method_without_a_body_may_not_announce_one(host: Host, method: str) -> None:
    assert host.request(request(f"{method} / HTTP/1.1", "Content-Length: 1")).reason is Reason.BODY_UNEXPECTED
    got = host.request(request(f"{method} / HTTP/1.1", "Content-Length: 0"))
    assert got.reason is Reason.NONE
    assert got.head.flags & FLAG_NO_BODY
    assert bool(got.head.flags & FLAG_IS_HEAD) == (method == "HEAD")


@pytest.mark.parametrize(
    "line",
    ["Connection: close", "Connection: keep-alive, x-user", "Connection: upgrade", "Connection: keep-alive ",
     "Connection: keep-aliv", "Connection: keep-alivee", "Connection:", "Connection: x", "Expect: 100-continue",
     "Upgrade: websocket", "TE: trailers", "Trailer: x", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5"],
)  # fmt: skip
def test_hop_by_hop_headers_are_left(host: Host, line: str) -> None:
    assert host.request(request("GET / HTTP/1.1", line)).reason is Reason.HOP_BY_HOP


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive", "KEEP-ALIVE"])
def test_keep_alive_says_nothing_new(host: Host, value: str) -> None:
    assert host.request(request("GET / HTTP/1.1", f"Connection: {value}")).reason is Reason.NONE
    twice = request("GET / HTTP/1.1", f"Connection: {value}", f"Connection: {value}")
    assert host.request(twice).reason is Reason.HOP_BY_HOP


@pytest.mark.parametrize(
    "lines",
    [
        "X: a\nY: b\r\n", "X: a\rb\r\n", "X: a\r\r\n", "X: a\x00b\r\n", "X: a\x01\r\n", "X: \x7f\r\n", "X : a\r\n",
        " X: a\r\n", "X: a\r\n folded\r\n", "X: a\r\n\tfolded\r\n", "X\r\n", ": a\r\n", "X y: a\r\n", "X\ty: a\r\n",
        "X(: a\r\n", "X\x80: a\r\n", "\n", "X: a\r\n\n", "X" * 40 + "\x0b: a\r\n",
    ],
)  # fmt: skip
def test_what_is_not_a_plain_header_line_is_left(host: Host, lines: str) -> None:
    message = b"GET / HTTP/1.1\r\nHost: a\r\n" + lines.encode("latin-1") + b"\r\n"
    assert host.request(message).reason is Reason.SYNTAX


@pytest.mark.parametrize("offset", range(40))
@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\0", b"\x1f", b"\x7f"])
def test_a_control_byte_is_found_at_every_place_of_a_value(host: Host, offset: int, bad: bytes) -> None:
    value = b"v" * offset + bad + b"w" * 40
    assert host.request(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n").reason is Reason.SYNTAX


@pytest.mark.parametrize("value", ["", " ", "a\tb", "h\xe9\xff~\xff\x7e", "\xff" * 40, "x" * 300, "  two", "tail  "])
def test_a_value_that_nobody_looks_at_may_hold_any_text(host: Host, value: str) -> None:
    assert host.request(request("GET / HTTP/1.1", f"X-Other: {value}")).reason is Reason.NONE


@pytest.mark.parametrize("value", ["bob ", "bob\t", " bob", "\tbob", "b\tob", "b\xf6b", "bob\x00", "", "bob", "alice"])
def test_a_value_that_counts_is_plain_ascii_without_white_space_around_it(host: Host, value: str) -> None:
    got = host.request(request("GET / HTTP/1.1", f"X-User: {value}"))
    plain = value in ("", "bob", "alice")
    assert got.reason is (Reason.NONE if plain else Reason.SYNTAX)
    if plain:
        assert got.head.bits[SPEC.slot("x-user")] == {"": 1, "bob": 0b011, "alice": 0b101}[value]


def test_names_are_compared_without_case_and_as_a_whole(host: Host) -> None:
    slot = SPEC.slot("x-user")
    assert host.request(request("GET / HTTP/1.1", "X-USER: bob")).head.bits[slot] == 0b011
    assert host.request(request("GET / HTTP/1.1", "X-Use: bob", "X-Users: bob")).head.bits[slot] == 0
    assert host.request(request("GET / HTTP/1.1", "x-user:bob")).head.bits[slot] == 0b011
    long = "X-User" + "a" * 60
    assert host.request(request("GET / HTTP/1.1", f"{long}: bob")).head.bits[slot] == 0


@pytest.mark.parametrize("name", ["x-user", "x-here", "x-cut"])
def test_a_header_that_counts_may_occur_once(host: Host, name: str) -> None:
    assert host.request(request("GET / HTTP/1.1", f"{name}: a")).reason is Reason.NONE
    twice = request("GET / HTTP/1.1", f"{name}: a", "X: y", f"{name.title()}: a")
    assert host.request(twice).reason is Reason.DUPLICATE_HEADER
    assert host.request(request("GET / HTTP/1.1", "X: y", "X: y")).reason is Reason.NONE


@pytest.mark.parametrize(
    ("query", "v", "flag"),
    [
        ("", 0, 0), ("?", 0, 0), ("?v=1", 0b011, 0), ("?v=12", 1, 0), ("?v=x=y", 0b101, 0), ("?v", 1, 0), ("?v=", 1, 0),
        ("?flag", 0, 1), ("?flag=0&v=1", 0b011, 1), ("?&&v=1&", 0b011, 0), ("?V=1", 0, 0), ("?%76=1", 0, 0),
        ("?vv=1", 0, 0), ("?=1&v=1", 0b011, 0), ("?a=v=1", 0, 0), ("?v=%31", 1, 0),
    ],
)  # fmt: skip
def test_query_parameters_are_read_as_they_are(host: Host, query: str, v: int, flag: int) -> None:
    got = host.request(request(f"GET /p{query} HTTP/1.1"))
    assert got.reason is Reason.NONE
    assert (got.head.bits[SPEC.slot("?v")], got.head.bits[SPEC.slot("?flag")]) == (v, flag)


def test_a_query_parameter_that_counts_may_occur_once(host: Host) -> None:
    assert host.request(request("GET /p?v=1&a=1&v=1 HTTP/1.1")).reason is Reason.DUPLICATE_QUERY
    assert host.request(request("GET /p?a=1&a=1 HTTP/1.1")).reason is Reason.NONE


def test_a_head_has_at_most_128_lines_and_16_kilobytes(host: Host) -> None:
    lines = [f"X-{n}: y" for n in range(200)]
    assert host.request(request("GET / HTTP/1.1", *lines[:127])).reason is Reason.NONE
    assert host.request(request("GET / HTTP/1.1", *lines[:128])).reason is Reason.HEAD_TOO_LARGE
    base = len(request("GET / HTTP/1.1", "X: "))
    fits = request("GET / HTTP/1.1", "X: " + "y" * (abi.MAX_HEAD - base))
    assert len(fits) == abi.MAX_HEAD
    assert host.request(fits).reason is Reason.NONE
    assert host.request(fits + b"body").reason is Reason.NONE
    over = request("GET / HTTP/1.1", "X: " + "y" * (abi.MAX_HEAD - base + 1))
    assert host.request(over).reason is Reason.HEAD_TOO_LARGE
    assert host.request(over[: abi.MAX_HEAD]).reason is Reason.HEAD_TOO_LARGE
    assert host.request(fits[:-1]).reason is Reason.INCOMPLETE_HEAD


def test_bytes_after_the_head_are_not_read(host: Host) -> None:
    message = request("POST / HTTP/1.1", "Content-Length: 3", end="\0\r\n")
    got = host.request(message)
    assert (got.reason, got.head.head_len) == (Reason.NONE, len(message) - 3)
