from __future__ import annotations

import pytest

from l7fp.ir.model import PathNormalization, StringKind, StringMatch
from l7fp.ir.paths import is_plain, normalize, rewrite_hazards


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/b.c/~d-_e", "/...", "/.a", "/a..", "/!$&'()*+,:@="])
def test_plain(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "*",
        "//",
        "/a//b",
        "/.",
        "/..",
        "/a/.",
        "/a/..",
        "/./a",
        "/../a",
        "/a/../b",
        "/%41",
        "/\\",
        "/a;b",
        "/#",
        "/a b",
        "/a\n",
        "/\x7f",
        "/\x80",
        '/"',
        "/<",
        "/>",
        "/^",
        "/`",
        "/{",
        "/|",
        "/}",
        "/[",
        "/]",
        "/a?b",
    ],
)
def test_not_plain(path: str) -> None:
    assert not is_plain(path)


@pytest.mark.parametrize("mode", PathNormalization)
@pytest.mark.parametrize("target", ["", "a", "*", "/\x00", "/ ", "/\x80", "/a?\x80", "/#", "/a?b#c", "/%00", "/a%00b"])
def test_refused_in_every_mode(target: str, mode: PathNormalization) -> None:
    assert normalize(target, mode) is None


def test_an_escaped_nul_in_the_query_is_the_servers_matter() -> None:
    assert normalize("/a?x=%00", PathNormalization.BASE) == "/a?x=%00"


def test_only_slashes_become_two_as_in_envoy() -> None:
    assert normalize("////", PathNormalization.MERGE_SLASHES) == "//"


def test_a_dot_segment_that_decoding_uncovers_goes_at_once() -> None:
    assert normalize("/x/%2e%2e;p/y", PathNormalization.BASE) == "/y"


def test_a_percent_sign_never_joins_what_decoding_yields() -> None:
    assert normalize("/%2%46%4%31", PathNormalization.DECODE_AND_MERGE_SLASHES) == "/%252F%2541"


def test_hazards_are_the_dot_segments_a_splice_would_make() -> None:
    exact, prefix = StringKind.EXACT, StringKind.PREFIX
    found = rewrite_hazards("/api", "/", PathNormalization.BASE)
    assert set(found) == {
        StringMatch(exact, "/api."),
        StringMatch(exact, "/api.."),
        StringMatch(prefix, "/api./"),
        StringMatch(prefix, "/api../"),
    }
    assert StringMatch(prefix, "/api/") in rewrite_hazards("/api", "/", PathNormalization.MERGE_SLASHES)


@pytest.mark.parametrize(("old", "new"), [("/api/", "/"), ("/api", "/new"), ("/api/", "/new")])
def test_no_hazards(old: str, new: str) -> None:
    assert all(rewrite_hazards(old, new, mode) == () for mode in PathNormalization)
