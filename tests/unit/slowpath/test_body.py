"""Chunked bodies: whatever the pieces, the same payload; nothing but the grammar."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpath.body import LAST_CHUNK, ChunkedDecoder, chunk
from slowpath.http1 import Rejected


def feed_all(data: list[bytes]) -> None:
    decoder = ChunkedDecoder()
    for piece in data:
        decoder.feed(piece)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({c % (len(data) + 1) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";a", b';a="b\\"c";d=e']),
    st.sampled_from([b"", b"x: y\r\n", b"x: y\r\nz:\r\n"]),
    st.binary(max_size=20),
    st.lists(st.integers(0, 1000), max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_payload_and_rest(
    parts: list[bytes], extension: bytes, trailers: bytes, rest: bytes, cuts: list[int]
) -> None:
    raw = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts) + b"0\r\n" + trailers + b"\r\n"
    decoder = ChunkedDecoder()
    payload, left = b"", pieces(raw + rest, cuts)
    while left and not decoder.done:
        payload += decoder.feed(left.pop(0))
    assert decoder.done
    assert payload == b"".join(parts)
    assert decoder.rest + b"".join(left) == rest


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
def test_what_is_encoded_is_decoded(parts: list[bytes]) -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"".join(map(chunk, parts)) + LAST_CHUNK) == b"".join(parts)
    assert decoder.done


@pytest.mark.parametrize(
    "raw",
    [
        b"g\r\n", b"-1\r\n", b"1 \r\n", b" 1\r\n", b"1;\r\n", b"1;a=\r\n", b'1;a="b\r\n', b"1; a\r\n", b"1;a b\r\n",
        b"\r\n",
        b"1\n", b"1\r\r\n", b"1\r\nab", b"1\r\na\n", b"1\r\na\r\r", b"0\r\n: x\r\n", b"0\r\nx\r\n", b"0\r\nx: \x00\r\n",
        b"0\r\nContent-Length: 1\r\n", b"0\r\n\n", b"1234567890123456\r\n", "٣\r\n".encode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bytewise", [False, True])
def test_everything_else_is_refused(raw: bytes, bytewise: bool) -> None:
    with pytest.raises(Rejected):
        feed_all([raw[i : i + 1] for i in range(len(raw))] if bytewise else [raw])


@pytest.mark.parametrize(
    ("piece", "times"),
    [(b"a" * 5000, 1), (b"1;" + b"a" * 4000 + b"\r\nx\r\n", 10), (b"0\r\n" + (b"x: " + b"y" * 4000 + b"\r\n") * 10, 1)],
    ids=["line", "extensions", "trailers"],
)
def test_what_carries_no_payload_is_bounded(piece: bytes, times: int) -> None:
    with pytest.raises(Rejected):
        feed_all([piece] * times)
