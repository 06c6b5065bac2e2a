"""The C parser, compiled for this process, against an independent one: same verdicts, same fields, same edits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l7fp import abi
from l7fp.abi import PathOp, Reason
from tests.unit.templates import agreement, strict_http1
from tests.unit.templates.http1 import Edit, Host, Spec, exact, prefix

SPEC = Spec(
    headers={"x-user": [exact("bob"), prefix("al")], "cookie": [prefix("a=")], "x-present": []},
    queries={"v": [exact("1"), prefix("x")], "flag": []},
    methods=[exact("GET"), exact("POST"), exact("PROPFIND")],
    edited=["x-user", "via", "x-gone"],
    response_edited=["server", "x-gone"],
    edits=[
        Edit(),
        Edit(remove=("x-user", "via", "x-gone"), insert=b"x-new: 1\r\nx-other: two words\r\n"),
        Edit(path_op=PathOp.REPLACE_PREFIX, strip=1, path=b"/replaced/by/this/", host=b"other.example:8080"),
        Edit(path_op=PathOp.REPLACE_ALL, path=b"/q", host=b"x", remove=("via",), insert=b"a: b\r\n"),
        Edit(remove=("x-gone", "server"), insert=b"server: envoy\r\n", response=True),
    ],
)  # fmt: skip

_names = st.sampled_from(
    [b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"X-User", b"x-user",
     b"Cookie", b"X-Present", b"Via", b"x-gone", b"Server", b"User-Agent", b"Accept", b"sec-ch-ua-platform", b"_x",
     b"x-a-rather-long-name-of-a-header-for-words", b"te", b"upgrade"]
)  # fmt: skip
_values = st.one_of(
    st.sampled_from(
        [b"a", b"foo.example", b"foo.example:80", b"[::1]:8080", b"0", b"5", b"05", b"+5", b"5,5", b"5 ", b"\t5", b"",
         b"9007199254740991", b"9007199254740992", b"chunked", b"Chunked", b"chunked, identity", b"keep-alive",
         b"Keep-Alive", b"close", b"CLOSE", b"keep-alive, close", b"keep-aliv", b"bob", b"alice", b"al ", b"a=1; b=2",
         b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", b"a@b", b"a.", b"h\xc3\xa9", b"x\ty"]
    ),
    st.binary(max_size=40),
)  # fmt: skip
_lines = st.tuples(_names, st.sampled_from([b": ", b":", b":  ", b" : ", b":\t"]), _values).map(b"".join)
_plain_lines = st.sampled_from(
    [b"Host: foo.example", b"User-Agent: curl/8.5.0", b"Accept: */*", b"X-User: alice", b"Via: 1.1 x", b"x-gone: y",
     b"Cookie: a=1", b"Content-Length: 5", b"X-Present: 1", b"Server: nginx", b"Connection: keep-alive",
     b"Connection: close", b"Transfer-Encoding: chunked", b"Sec-Fetch-Site: same-origin"]
)  # fmt: skip
_targets = st.one_of(
    st.sampled_from([b"/", b"/a/b.html", b"/a?v=1&flag", b"/api/v1/products/17/reviews", b"/a?b=%2f..//;"]),
    st.sampled_from([b"/", b"/a/b.html", b"/a?v=1&flag", b"/.well-known/x", b"/a/../b", b"//a", b"/a/.", b"/...", b"*",
                     b"http://h/", b"/%61", b"/a;b", b"/a#f", b"/a?v=x&v=1", b"/a?b=%2f..//;", b"/a?v", b"/?", b"/a/"]),
    st.lists(st.sampled_from([b"/", b".", b"a", b"bcdefgh", b"?", b"&", b"=", b"v", b"flag", b"v=1"]), max_size=12)
    .map(lambda parts: b"/" + b"".join(parts)),
)  # fmt: skip
_methods = st.sampled_from(
    [b"POST", b"PUT", b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PROPFIND", b"VERSIONCONTROL", b"get"]
)


def _join(first: bytes, lines: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in [first, *lines]) + b"\r\n"


_requests = st.builds(
    lambda method, target, lines: _join(method + b" " + target + b" HTTP/1.1", lines),
    _methods,
    _targets,
    st.one_of(
        st.lists(st.one_of(_lines, _plain_lines), max_size=6),
        st.lists(_plain_lines, max_size=8, unique=True).map(lambda lines: [b"Host: a.b", *lines]),
    ),
)
_responses = st.builds(
    lambda status, lines: _join(b"HTTP/1.1 " + status, lines),
    st.sampled_from(
        [b"200 OK", b"200 ", b"404 Not Found", b"204 No Content", b"304 ", b"101 Switching", b"200", b"600 x"]
    ),
    st.one_of(
        st.lists(st.one_of(_lines, _plain_lines), max_size=6),
        st.lists(_plain_lines, max_size=6, unique=True).map(lambda lines: [b"Content-Length: 5", *lines]),
        st.lists(_plain_lines, max_size=6, unique=True).map(lambda lines: [*lines, b"Transfer-Encoding: chunked"]),
    ),
)


@st.composite
def _mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message with up to three bytes changed, taken out, put in, or a piece repeated."""
    message = draw(messages)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(message)))
        piece = draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b"/"]))
        )
        until = at + draw(st.integers(0, 2))
        message = message[:at] + piece + message[until:]
    return message


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(SPEC)


@settings(max_examples=1000, deadline=None)
@given(message=_mutated(_requests), body=st.binary(max_size=20))
def test_a_request_is_accepted_just_when_the_strict_parser_accepts_it(host: Host, message: bytes, body: bytes) -> None:
    agreement.request(host, message + body)


@settings(max_examples=700, deadline=None)
@given(message=_mutated(_responses), is_head=st.booleans())
def test_a_response_is_accepted_just_when_the_strict_parser_accepts_it(
    host: Host, message: bytes, is_head: bool
) -> None:
    agreement.response(host, message, is_head=is_head)


@settings(max_examples=100, deadline=None)
@given(message=_requests)
def test_a_prefix_of_an_accepted_request_is_incomplete(host: Host, message: bytes) -> None:
    if host.request(message).result:
        return
    for end in range(len(message)):
        assert host.request(message[:end]).reason is Reason.INCOMPLETE_HEAD


@settings(max_examples=100, deadline=None)
@given(message=_responses)
def test_a_prefix_of_an_accepted_response_is_incomplete(host: Host, message: bytes) -> None:
    if host.response(message).result:
        return
    for end in range(len(message)):
        assert host.response(message[:end]).reason is Reason.INCOMPLETE_HEAD


@settings(max_examples=500, deadline=None)
@given(message=_requests, body=st.binary(max_size=20), number=st.integers(0, 3))
def test_an_edited_request_is_what_editing_its_lines_makes(
    host: Host, message: bytes, body: bytes, number: int
) -> None:
    agreement.edited_request(host, message + body, number)


@settings(max_examples=400, deadline=None)
@given(message=_responses, number=st.sampled_from([0, 4, abi.NONE]))
def test_an_edited_response_is_what_editing_its_lines_makes(host: Host, message: bytes, number: int) -> None:
    agreement.edited_response(host, message, number)


_chunks = st.lists(
    st.builds(
        lambda data, extension: b"%X%b\r\n%b\r\n" % (len(data), extension, data),
        st.binary(min_size=1, max_size=70),
        st.sampled_from([b"", b"", b";a", b';a="b"']),
    ),
    max_size=4,
).map(b"".join)
_bodies = st.builds(
    lambda chunks, last: chunks + last,
    _chunks,
    st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\n\r\n", b"0\r\nx: y\r\nz:\r\n\r\n"]),
)


@settings(max_examples=800, deadline=None)
@given(body=_mutated(_bodies), rest=st.binary(max_size=9), cuts=st.lists(st.integers(1, 200), max_size=5))
def test_a_chunked_body_ends_where_the_strict_parser_says(
    host: Host, body: bytes, rest: bytes, cuts: list[int]
) -> None:
    data = body + rest
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    outcome, piece, end = host.chunked(pieces)
    if outcome == 1:
        assert strict_http1.chunked_end(data) == places[piece] + end
    else:
        assert strict_http1.chunked_end(data) is None
