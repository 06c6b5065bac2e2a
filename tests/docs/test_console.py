"""The reader of console blocks."""

from __future__ import annotations

import pytest

from tests.docs.console import blocks, matches

TEXT = """
<!-- run: kernel, numbers vary -->
```console
$ first --x
one
$ second
```
```console
$ third
```
"""


def test_blocks_have_commands_outputs_and_conditions() -> None:
    found = blocks(TEXT)
    assert [b.steps for b in found] == [(("first --x", "one\n"), ("second", "")), (("third", ""),)]
    assert [b.how for b in found] == [{"kernel", "numbers vary"}, frozenset()]


@pytest.mark.parametrize(
    ("expected", "actual", "numbers_vary", "same"),
    [
        ("a\nb\n", "a\nb\n", False, True),
        ("a\nb\n", "a\nc\n", False, False),
        ("a\n…\nd\n", "a\nb\nc\nd\n", False, True),
        ("a\n…\nd\n", "a\nd\n", False, True),
        ("a … c\n", "a bbb c\n", False, True),
        ("a.c\n", "abc\n", False, False),
        ("took 1,234 µs\n", "took  9 µs\n", True, True),
        ("took 1 µs\n", "took 2 µs\n", False, False),
    ],
)
def test_output_matches_line_by_line(expected: str, actual: str, numbers_vary: bool, same: bool) -> None:
    assert matches(expected, actual, numbers_vary=numbers_vary) is same
