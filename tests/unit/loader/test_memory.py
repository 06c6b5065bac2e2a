"""Shared memory views, on a memory file in place of a map."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from l7fp import abi
from l7fp.loader.maps import MmapView, chunks

CONN = abi.BY_NAME["conn"]


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("map")
    os.truncate(made, 1 << 16)
    yield made
    os.close(made)


@pytest.fixture
def view(fd: int) -> Iterator[MmapView]:
    made = MmapView(fd, CONN, 100)
    yield made
    made.close()


def test_every_field_of_every_record_is_where_the_abi_puts_it(fd: int, view: MmapView) -> None:
    for index in (0, 1, 99):
        for number, field in enumerate(CONN.fields):
            view[field.name][index] = number + index
        raw = os.pread(fd, CONN.size, index * CONN.size)
        expected = {field.name: number + index for number, field in enumerate(CONN.fields)}
        assert CONN.unpack(raw) == expected
        assert view.record(index) == expected


def test_columns_have_one_item_per_record(view: MmapView) -> None:
    assert len(view) == len(view["passed"]) == len(view["flags"]) == 100
    with pytest.raises(IndexError):
        view["passed"][100]
    assert view["passed"] is view["passed"]


def test_unknown_fields_are_refused(view: MmapView) -> None:
    with pytest.raises(KeyError, match=r"conn\.nothing"):
        view["nothing"]


def test_clear_zeroes_one_record_only(view: MmapView) -> None:
    view["sent"][4] = view["sent"][5] = view["sent"][6] = 7
    view.clear(5)
    assert list(view["sent"][4:7]) == [7, 0, 7]


def test_closed_view_can_not_be_used(fd: int) -> None:
    view = MmapView(fd, CONN, 100)
    column = view["sent"]
    view.close()
    with pytest.raises(ValueError, match="released"):
        column[0]


def test_chunks_are_equally_long_pieces() -> None:
    assert list(chunks(b"abcdef", 2)) == [b"ab", b"cd", b"ef"]
