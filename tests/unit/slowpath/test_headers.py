"""Heads on their way out."""

from __future__ import annotations

import re

import pytest

from l7fp.ir.model import HeaderEdits
from slowpath.headers import RequestIds, check, edited, reply, request_head, response_head, sanitise
from slowpath.http1 import Framing, Rejected, parse_request, parse_response


def test_edits_cannot_touch_the_framing() -> None:
    evil = HeaderEdits(
        remove=("x",), set=(("content-length", "1"), ("host", "b")), add=(("transfer-encoding", "chunked"), ("y", "2"))
    )
    assert edited((("x", "1"), ("z", "3")), [evil]) == (("z", "3"), ("y", "2"))


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb", "a\rb", "a\x00b"])
def test_policy_text_cannot_end_a_line(text: str) -> None:
    for edits in (HeaderEdits(set=(("x", text),)), HeaderEdits(add=((text, "x"),))):
        with pytest.raises(Rejected):
            check([edits])
    with pytest.raises(Rejected):
        reply(302, (("location", text),), b"", http10=False, close=False, is_head=False)


def test_request_ids_are_version_4_and_distinct() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(1000)]
    assert len(set(made)) == 1000
    form = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(form.fullmatch(i) for i in made)
    assert {i[19:20] for i in made} == {b"8", b"9", b"a", b"b"}


def test_trust() -> None:
    headers = (("x-l7fp-a", "1"), ("x-envoy-b", "2"), ("x-forwarded-for", "3"), ("x-c", "4"))
    assert sanitise(headers, trust=True) == headers[1:]
    assert sanitise(headers, trust=False) == headers[3:]
    assert sanitise(headers[3:], trust=False) is headers[3:] or sanitise(headers[3:], trust=False) == headers[3:]


@pytest.mark.parametrize(
    ("hops", "peer", "expected"),
    [
        ([], "1.1.1.1", b"x-forwarded-for: 1.1.1.1\r\n"),
        (["9.9.9.9"], "1.1.1.1", b"x-forwarded-for: 9.9.9.9, 1.1.1.1\r\n"),
        (["9.9.9.9", "", "8.8.8.8"], "1.1.1.1", b"x-forwarded-for: 9.9.9.9, 8.8.8.8, 1.1.1.1\r\n"),
        (["9.9.9.9"], "", b"x-forwarded-for: 9.9.9.9\r\n"),
        ([], "", b""),
    ],
)
def test_forwarded_for(hops: list[str], peer: str, expected: bytes) -> None:
    head = parse_request(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    headers = tuple(("x-forwarded-for", hop) for hop in hops)
    data, wants_id = request_head(head, method="GET", target="/", authority="a", headers=headers, peer=peer)
    assert data == b"GET / HTTP/1.1\r\nhost: a\r\n" + expected + b"x-forwarded-proto: http\r\nx-request-id: "
    assert wants_id


@pytest.mark.parametrize(
    ("raw", "framing", "http10", "close", "lines"),
    [
        (b"content-length: 3", Framing.LENGTH, False, False, [b"content-length: 3"]),
        (b"content-length: 3", Framing.LENGTH, True, False, [b"content-length: 3", b"connection: keep-alive"]),
        (b"content-length: 3", Framing.NONE, False, True, [b"content-length: 3", b"connection: close"]),
        (b"x: y", Framing.EOF, False, False, [b"x: y", b"transfer-encoding: chunked"]),
        (b"x: y", Framing.EOF, True, True, [b"x: y", b"connection: close"]),
        (b"transfer-encoding: chunked", Framing.CHUNKED, False, False, [b"transfer-encoding: chunked"]),
    ],
)
def test_response_framing(raw: bytes, framing: Framing, http10: bool, close: bool, lines: list[bytes]) -> None:
    head = parse_response(b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n")
    made = response_head(head, framing, (), http10=http10, close=close)
    assert made == b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
