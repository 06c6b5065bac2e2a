"""The compiled code and the strict parser must say the same of any bytes; each check raises AssertionError if not."""

from __future__ import annotations

from l7fp import abi
from l7fp.abi import Reason
from tests.unit.templates import strict_http1
from tests.unit.templates.http1 import FLAG_CHUNKED, FLAG_CLOSE, Host, Outcome
from tests.unit.templates.strict_http1 import RefusedError, Strict


def _refused(got: Outcome, message: bytes) -> None:
    assert got.result != 0, message
    # waiting for more of a head that is there would hang the connection
    assert b"\r\n\r\n" not in message or got.reason is not Reason.INCOMPLETE_HEAD, message


def request(host: Host, message: bytes) -> Strict | None:
    """Same verdict and same fields; what the strict parser read, None if both refuse."""
    got = host.request(message)
    try:
        want = strict_http1.request(message, host.spec)
    except RefusedError:
        _refused(got, message)
        return None
    assert got.result == 0, (got.reason, message)
    assert got.head.head_len == want.size
    assert got.head.line_len == len(want.first)
    assert message[: got.head.method_len] == want.method
    assert got.text(message, "path") == want.path
    assert got.text(message, "query") == want.query
    assert got.text(message, "host") == want.host
    assert got.head.content_length == want.length
    words = strict_http1.bits(want, host.spec)
    assert {slot: got.head.bits[slot] for slot in words} == words, message
    return want


def response(host: Host, message: bytes, *, is_head: bool = False) -> Strict | None:
    """Same verdict and same framing."""
    got = host.response(message, is_head=is_head)
    try:
        want = strict_http1.response(message, host.spec, is_head=is_head)
    except RefusedError:
        _refused(got, message)
        return None
    assert got.result == 0, (got.reason, message)
    assert (got.head.status, got.head.head_len) == (want.status, want.size)
    assert got.head.content_length == want.length
    assert bool(got.head.flags & FLAG_CHUNKED) == want.chunked
    assert bool(got.head.flags & FLAG_CLOSE) == want.close
    return want


def edited_request(host: Host, message: bytes, number: int) -> None:
    """Of an accepted request: the edit makes what editing its lines makes, and leaves the body alone."""
    got = host.edit_request(message, number)
    if got.head.reason:
        return
    strict = strict_http1.request(message, host.spec)
    want = strict_http1.edited(strict, host.spec.edits[number]) + message[strict.size :]
    assert (got.result, got.message) == (0, want), message


def edited_response(host: Host, message: bytes, number: int) -> None:
    """The same for a response; `abi.NONE` is no edit but what every response loses."""
    got = host.edit_response(message, number)
    if got.head.reason:
        return
    strict = strict_http1.response(message, host.spec, is_head=False)
    edit = None if number == abi.NONE else host.spec.edits[number]
    assert (got.result, got.message) == (0, strict_http1.edited(strict, edit) + message[strict.size :]), message
