"""Changes to messages: byte for byte, and harmless when the kernel refuses one half way."""

from __future__ import annotations

import pytest

from l7fp import abi
from l7fp.abi import PartKind, PathOp, Reason
from tests.unit.templates.http1 import Edit, Host, Spec

HEAD_403 = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 19\r\n\r\n"
CONST, HOST, PATH, QUERY = PartKind.CONST, PartKind.HOST, PartKind.PATH, PartKind.QUERY
NAMES = tuple(f"x-{n}" for n in range(8))
SPEC = Spec(
    edited=NAMES,
    response_edited=["server", "date"],
    edits=[
        Edit(NAMES, b"x-new: 1\r\n", PathOp.REPLACE_PREFIX, strip=4, path=b"/v2", host=b"b.local"),
        Edit(path_op=PathOp.REPLACE_PREFIX, strip=4, path=b"/" + b"p" * 700),
        Edit(path_op=PathOp.REPLACE_ALL, path=b"/all"),
        Edit(host=b"x"),
        Edit(remove=("server", "date"), insert=b"via: l7fp\r\n", response=True),
        Edit(path_op=PathOp.REPLACE_PREFIX, strip=4, path=b"/abc"),
    ],
    replies=[
        ([(CONST, 0, HEAD_403), (CONST, 0, b"RBAC: access denied")], 1),
        ([(CONST, 0, b"HTTP/1.1 301 x\r\nlocation: http://"), (HOST, 0, b""), (CONST, 0, b"/new"), (PATH, 4, b""),
          (QUERY, 0, b""), (CONST, 0, b"\r\ncontent-length: 0\r\n\r\n")], 6),
        ([(CONST, 0, b"H" * 3000), (CONST, 0, b"t" * 1096)], 2),
        ([(CONST, 0, b"H" * 3000), (CONST, 0, b"t" * 1097)], 2),
        ([(CONST, 0, b"H" * 4090), (PATH, 0, b"")], 2),
        ([(CONST, 0, b"x")], 1),
    ],
)  # fmt: skip
MESSAGE = b"GET /old/item?id=7 HTTP/1.1\r\nHost: a.example\r\nX-3: three\r\nAccept: */*\r\nx-0: zero\r\n\r\n"


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(SPEC)


def test_everything_at_once(host: Host) -> None:
    got = host.edit_request(MESSAGE + b"body", 0)
    want = b"GET /v2/item?id=7 HTTP/1.1\r\nHost: b.local\r\nAccept: */*\r\nx-new: 1\r\n\r\nbody"
    assert (got.result, got.message) == (0, want)


def test_eight_lines_out_in_any_order(host: Host) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"v" * n) for n in (5, 2, 7, 0, 1, 6, 3, 4))
    got = host.edit_request(b"GET /old HTTP/1.1\r\n" + lines + b"Host: a\r\nY: z\r\n\r\n", 0)
    assert got.message == b"GET /v2 HTTP/1.1\r\nHost: b.local\r\nY: z\r\nx-new: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("number", "path"), [(1, b"/" + b"p" * 700 + b"/item"), (2, b"/all"), (3, b"/old/item"), (5, b"/abc/item")]
)
def test_paths(host: Host, number: int, path: bytes) -> None:
    got = host.edit_request(MESSAGE, number)
    assert got.result == 0
    assert got.message.startswith(b"GET " + path + b"?id=7 HTTP/1.1\r\n")


def test_a_prefix_longer_than_the_path_changes_nothing(host: Host) -> None:
    message = b"GET /o HTTP/1.1\r\nHost: a\r\n\r\n"
    got = host.edit_request(message, 0)
    assert (got.result, got.message) == (-1, message)


def test_a_response_loses_close_and_what_the_edit_removes(host: Host) -> None:
    message = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nConnection: close\r\nDate: now\r\n\r\nhi"
    plain = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nDate: now\r\n\r\nhi"
    assert host.edit_response(message, abi.NONE).message == plain
    want = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nvia: l7fp\r\n\r\nhi"
    assert host.edit_response(message, 4).message == want
    kept = message.replace(b"close", b"keep-alive")
    got = host.edit_response(kept, abi.NONE)
    assert (got.result, got.message, got.changes) == (0, kept, 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
def test_a_change_that_fails_says_whether_an_earlier_one_was_made(host: Host, number: int) -> None:
    whole = host.edit_request(MESSAGE, number)
    for fail_at in range(1, whole.changes + 1):
        got = host.edit_request(MESSAGE, number, fail_at=fail_at)
        assert got.result != 0
        assert (got.result < 0) == (got.message == MESSAGE)


def test_an_edit_that_does_not_exist_changes_nothing(host: Host) -> None:
    assert host.edit_request(MESSAGE, 99).result == -1
    assert host.edit_response(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 99).result == -1
    assert host.reply(MESSAGE, 99).result == -1


@pytest.mark.parametrize("size", [0, 1, 8, 100, 3000])
def test_a_constant_reply_replaces_a_message_of_any_size(host: Host, size: int) -> None:
    message = MESSAGE[:-2] + b"X: " + b"y" * size + b"\r\n\r\n"
    assert host.reply(message, 0).message == HEAD_403 + b"RBAC: access denied"
    assert host.reply(message, 5).message == b"x"


def test_a_reply_to_head_has_no_body(host: Host) -> None:
    assert host.reply(MESSAGE.replace(b"GET", b"HEAD"), 0).message == HEAD_403


def test_a_redirect_is_made_of_the_request(host: Host) -> None:
    end = b"\r\ncontent-length: 0\r\n\r\n"
    start = b"HTTP/1.1 301 x\r\nlocation: http://a.example/new"
    assert host.reply(MESSAGE, 1).message == start + b"/item?id=7" + end
    assert host.reply(MESSAGE.replace(b"?id=7", b""), 1).message == start + b"/item" + end
    assert host.reply(MESSAGE.replace(b"/old/item", b"/x"), 1).message == start + b"?id=7" + end
    long = b"/old/" + b"z" * 2000
    assert host.reply(MESSAGE.replace(b"/old/item", long), 1).message == start + long[4:] + b"?id=7" + end


def test_a_reply_has_at_most_4096_bytes(host: Host) -> None:
    assert host.reply(MESSAGE, 2).message == b"H" * 3000 + b"t" * 1096
    for number in (3, 4):
        got = host.reply(MESSAGE, number)
        assert (got.result, got.message) == (-1, MESSAGE)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_reply_that_fails_says_whether_the_message_was_changed(host: Host, number: int) -> None:
    whole = host.reply(MESSAGE, number)
    assert whole.head.reason == Reason.NONE
    for fail_at in range(1, whole.changes + 1):
        got = host.reply(MESSAGE, number, fail_at=fail_at)
        assert got.result != 0
        assert (got.result < 0) == (got.message == MESSAGE)
