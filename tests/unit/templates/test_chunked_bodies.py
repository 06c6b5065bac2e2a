"""Where the kernel sees a chunked body end, however the server cuts it into messages."""

from __future__ import annotations

import random

import pytest

from tests.unit.templates.http1 import Host, Spec

MORE, DONE, ERROR = range(3)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(Spec())


def body(*chunks: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    parts = [b"%x" % len(chunk) + extension + b"\r\n" + chunk + b"\r\n" for chunk in chunks]
    return b"".join(parts) + b"0" + extension + b"\r\n" + trailers + b"\r\n"


BODIES = [
    body(),
    body(b"a"),
    body(b"hello", b"x" * 1000, b"\r\n0\r\n\r\n"),
    body(b"x" * 70000),
    body(b"a", b"b", extension=b";name=value;x"),
    body(b"a" * 0x1A, trailers=b"x-checksum: abc\r\ny: z\r\n"),
    b"00A\r\n0123456789\r\n0000\r\n\r\n",
    body(*[b"x"] * 500),
]


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_the_end_is_found_in_any_division(host: Host, number: int) -> None:
    data = BODIES[number]
    assert host.chunked([data]) == (DONE, 0, len(data))
    rng = random.Random(number)
    for _ in range(30):
        cuts = sorted(rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 6)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
        assert host.chunked(pieces) == (DONE, len(pieces) - 1, len(pieces[-1]))


def test_byte_by_byte(host: Host) -> None:
    data = body(b"hello", b"world", extension=b";q", trailers=b"a: b\r\n")
    assert host.chunked([bytes([b]) for b in data]) == (DONE, len(data) - 1, 1)


def test_what_follows_the_end_is_not_read(host: Host) -> None:
    data = body(b"hello")
    assert host.chunked([data + b"HTTP/1.1 200 OK\r\n"]) == (DONE, 0, len(data))


def test_a_body_begins_behind_the_head(host: Host) -> None:
    data = body(b"hello")
    assert host.chunked([b"\0" * 300 + data], skip=300) == (DONE, 0, 300 + len(data))
    assert host.chunked([b"head", data], skip=4) == (DONE, 1, len(data))


def test_a_body_that_goes_on_asks_for_more(host: Host) -> None:
    data = body(b"x" * 100, trailers=b"a: b\r\n")
    for end in range(len(data)):
        assert host.chunked([data[:end]])[0] == MORE


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"g\r\n", b"-1\r\n", b"+1\r\na\r\n", b" 1\r\na\r\n", b"1 \r\na\r\n", b"0x1\r\na\r\n", b"1\na\r\n",
        b"1\r\na\n", b"1\r\nab\r\n", b"1\ra", b"1\r\na\r\r", b"1;a\nb\r\n", b"1;\0\r\n", b"1\r\na\r\n\r\n",
        b"0000000000000001\r\n", b"ffffffffffffffff\r\n", b"0\r\n\n", b"0\r\n folded\r\n\r\n", b"0\r\n: x\r\n\r\n",
        b"0\r\na: b\n\r\n", b"0\r\na\0: b\r\n\r\n", b"0\r\n\rX", b"1;" + b"x" * 2000 + b"\r\n",
        b"0\r\n" + b"a: bbbbbbbb\r\n" * 1000 + b"\r\n", b";x\r\n",
    ],
)  # fmt: skip
def test_what_two_readers_could_take_differently_is_an_error(host: Host, data: bytes) -> None:
    assert host.chunked([data])[0] == ERROR
    assert host.chunked([data[:1], data[1:]])[0] == ERROR


def test_a_chunk_of_any_size_is_stepped_over(host: Host) -> None:
    size = (1 << 60) - 1
    pieces = [b"%x\r\n" % size] + [b"\0" * 100_000] * 3
    assert host.chunked(pieces)[0] == MORE
