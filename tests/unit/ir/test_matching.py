from __future__ import annotations

import builtins
from typing import Any

import pytest

from l7fp.errors import UnavailableError
from l7fp.ir.matching import address_key, compile_any, compile_networks, compile_string, compile_template, lower
from l7fp.ir.model import StringKind, StringMatch


def test_only_ascii_letters_have_a_case() -> None:
    assert lower("AbZ") == "abz"
    assert lower("\u212aÀ") == "\u212aÀ"
    assert not compile_string(StringMatch(StringKind.EXACT, "k", True))("\u212a")


def test_bytes_that_are_not_utf8_compare_as_bytes() -> None:
    raw = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert compile_string(StringMatch(StringKind.PREFIX, raw[:1]))(raw)
    assert not compile_string(StringMatch(StringKind.REGEX, "a.*"))(raw)


def test_a_regex_ignores_that_case_should_be_ignored() -> None:
    assert not compile_string(StringMatch(StringKind.REGEX, "abc", True))("ABC")


def test_a_regex_takes_linear_time() -> None:
    assert not compile_string(StringMatch(StringKind.REGEX, "(a*)*b"))("a" * 50_000)


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", "[z-a]"])
def test_what_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="RE2"):
        compile_string(StringMatch(StringKind.REGEX, pattern))


def test_without_re2_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnavailableError) as caught:
        compile_string(StringMatch(StringKind.REGEX, "a"))
    assert "google-re2" in caught.value.hint


@pytest.mark.parametrize(
    "template",
    ["no-slash", "/{a}", "/x{*}", "/{**}/{*}", "/{**}/{**}", "/a{**}", "/{**}a", "/{", "/}"],
)
def test_templates_that_istio_refuses(template: str) -> None:
    with pytest.raises(ValueError, match=r"template|segments"):
        compile_template(template)


def test_template_operators_do_not_stand_for_brackets() -> None:
    assert not compile_template("/{*}")("/a[b")
    assert not compile_template("/{**}")("/a[b")


def test_any_of_mixed_kinds() -> None:
    test = compile_any([StringMatch(StringKind.EXACT, "a"), StringMatch(StringKind.EXACT, "B", True)])
    assert [test(text) for text in ("a", "A", "b", "B", "c")] == [True, False, True, True, False]


def test_nothing_is_any_of_nothing() -> None:
    assert not compile_any([])("")


def test_addresses() -> None:
    assert address_key("::ffff:1.2.3.4") == address_key("1.2.3.4") == (4, 0x01020304)
    assert address_key("nonsense") is None
    assert not compile_networks(["0.0.0.0/0"])("::1")
    assert compile_networks(["fd00::/8", "1.2.3.4/32"])("1.2.3.4")
