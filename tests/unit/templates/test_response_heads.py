"""Which responses the kernel frames itself, and which it hands to the agent."""

from __future__ import annotations

import pytest

from l7fp.abi import Reason
from tests.unit.templates.http1 import FLAG_CHUNKED, FLAG_CLOSE, FLAG_NO_BODY, Host, Spec


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(Spec(response_edited=["server"]))


def response(*headers: str, status: str = "200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in [f"HTTP/1.1 {status}", *headers, ""]).encode("latin-1")


def test_a_response_of_known_length(host: Host) -> None:
    message = response("Content-Type: text/plain", "Content-Length: 42", "X: h\xe9")
    got = host.response(message + b"body")
    assert got.reason is Reason.NONE
    assert (got.head.status, got.head.content_length, got.head.head_len) == (200, 42, len(message))
    assert message[: got.head.line_len] == b"HTTP/1.1 200 OK\r\n"
    assert not got.head.flags & (FLAG_CHUNKED | FLAG_CLOSE | FLAG_NO_BODY)


def test_a_chunked_response(host: Host) -> None:
    got = host.response(response("Transfer-Encoding: chunked"))
    assert got.reason is Reason.NONE
    assert got.head.flags & FLAG_CHUNKED


@pytest.mark.parametrize("length", [(), ("Content-Length: 7",), ("Transfer-Encoding: chunked",)])
def test_no_body_follows_a_head_response_or_304(host: Host, length: tuple[str, ...]) -> None:
    for got in (
        host.response(response(*length), is_head=True),
        host.response(response(*length, status="304 Not Modified")),
    ):
        assert got.reason is Reason.NONE
        assert got.head.flags & FLAG_NO_BODY
        assert not got.head.flags & FLAG_CHUNKED
        assert got.head.content_length == 0


def test_204_has_no_body_and_may_not_say_so_wrongly(host: Host) -> None:
    assert host.response(response(status="204 No Content")).head.flags & FLAG_NO_BODY
    assert host.response(response("Content-Length: 0", status="204 No Content")).reason is Reason.NONE
    assert host.response(response("Content-Length: 1", status="204 No Content")).reason is Reason.SYNTAX
    assert host.response(response("Transfer-Encoding: chunked", status="204 x")).reason is Reason.SYNTAX


def test_a_body_that_ends_with_the_connection_is_for_the_agent(host: Host) -> None:
    assert host.response(response("X: y")).reason is Reason.ADOPTED_RESPONSE


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "103 Early Hints"])
def test_interim_responses_are_for_the_agent(host: Host, status: str) -> None:
    assert host.response(response("Content-Length: 0", status=status)).reason is Reason.ADOPTED_RESPONSE


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("Content-Length: 1", "Transfer-Encoding: chunked"), Reason.TRANSFER_ENCODING),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), Reason.TRANSFER_ENCODING),
        (("Transfer-Encoding: Chunked",), Reason.TRANSFER_ENCODING),
        (("Transfer-Encoding: gzip, chunked",), Reason.TRANSFER_ENCODING),
        (("Transfer-Encoding: chunked ",), Reason.TRANSFER_ENCODING),
        (("Transfer-Encoding: x",), Reason.TRANSFER_ENCODING),
        (("Content-Length: 1", "Content-Length: 1"), Reason.SYNTAX),
        (("Content-Length: 1, 1",), Reason.SYNTAX),
        (("Content-Length: 01",), Reason.SYNTAX),
        (("Content-Length: 1", "Keep-Alive: timeout=5"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Upgrade: h2c"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Trailer: x"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Proxy-Connection: close"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Connection: x-y"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Connection: close, x"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Connection: close", "Connection: close"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Connection: c"), Reason.HOP_BY_HOP),
        (("Content-Length: 1", "Server: a", "Server: b"), Reason.DUPLICATE_HEADER),
        (("Content-Length: 1", "X: a\rb"), Reason.SYNTAX),
        (("Content-Length: 1", " folded"), Reason.SYNTAX),
    ],
)
def test_odd_framing_is_for_the_agent(host: Host, lines: tuple[str, ...], reason: Reason) -> None:
    assert host.response(response(*lines)).reason is reason


@pytest.mark.parametrize(
    "first",
    ["HTTP/1.0 200 OK", "HTTP/2 200", "HTTP/1.1 200", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK",
     "HTTP/1.1 600 x", "HTTP/1.1 099 x", "http/1.1 200 OK", "ICY 200 OK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 OK\rX"],
)  # fmt: skip
def test_an_unusual_status_line_is_for_the_agent(host: Host, first: str) -> None:
    message = f"{first}\r\nContent-Length: 0\r\n\r\n".encode()
    assert host.response(message).reason is Reason.SYNTAX


def test_an_empty_reason_phrase_is_usual(host: Host) -> None:
    assert host.response(response("Content-Length: 0", status="200 ")).reason is Reason.NONE


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE"])
def test_close_is_noticed_with_its_line(host: Host, value: str) -> None:
    message = response("Content-Length: 0", f"Connection: {value}")
    got = host.response(message)
    assert got.reason is Reason.NONE
    assert got.head.flags & FLAG_CLOSE
    line = got.head.connection
    assert message[line.off : line.off + line.len] == f"Connection: {value}\r\n".encode()
    assert not host.response(response("Content-Length: 0", "Connection: keep-alive")).head.flags & FLAG_CLOSE
