"""Rendered C: only numbers and names of our own, laid out as the ABI says."""

from __future__ import annotations

import jinja2
import pytest

from l7fp import abi
from l7fp.codegen import cc, render
from tests.unit.codegen.policies import all_kernel, exact, header, path, planned, policy, rule, sample, say

EVIL = '"; int x; /*\\x00\n#include </etc/passwd>'


def test_no_text_of_a_policy_reaches_the_c_source() -> None:
    rules = (
        rule(EVIL, say(EVIL), (path(exact("/" + EVIL)),)),
        rule("r", say(""), (header("x-unusual-name", exact("unusual-value")),)),
    )
    text = "".join(render.render(all_kernel(policy(*rules, domains=("unusual.example",)))).values())
    for word in ("int x;", "passwd", "unusual"):
        assert word not in text


def test_filters_refuse_what_is_no_identifier_or_number() -> None:
    for text in ("a b", "a;", "", 'a"', "a\nb"):
        with pytest.raises(ValueError, match="identifier"):
            render.c_ident(text)
    for number in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64-bit"):
            render.c_uint(number)


def test_numbers_carry_the_suffix_they_need() -> None:
    assert [render.c_uint(n) for n in (0, 1 << 31, 1 << 32)] == ["0", "2147483648U", "4294967296ULL"]
    assert render.c_bytes(b"a\x00") == "97, 0"


def test_unknown_names_in_templates_are_errors() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render.environment().from_string("{{ nothing }}").render()


@pytest.mark.parametrize("line", ['u32 x = "text";', "\tsystem(1);", "#pragma once", "#define X \\", "struct é;"])
def test_lint_refuses_lines_of_another_form(line: str) -> None:
    with pytest.raises(ValueError, match="rendered line 2"):
        render.lint(f"struct a {{\n{line}\n")


def test_every_rendered_header_passes_the_lint() -> None:
    render.lint(render.tables_header(planned(sample())))


def test_features_that_a_policy_does_not_use_are_compiled_out() -> None:
    plain = render.tables_header(all_kernel(policy(rule("r", say("")))))
    rich = render.tables_header(planned(sample()))
    for feature in render.ALL_FEATURES:
        assert f"#define L7_{feature.upper()} " in plain
    assert "#define L7_HAS_AUTHZ 0" in plain
    assert "#define L7_HAS_AUTHZ 1" in rich


def test_abi_header_agrees_with_the_python_layout(tmp_path: object) -> None:
    text = render.abi_header()
    for struct in abi.STRUCTS:
        assert f"_Static_assert(sizeof(struct l7_{struct.name}) == {struct.size}," in text
    source = '#define L7_HOST 1\n#include "abi.h"\nint unused;\n'
    assert cc.compile_host({"abi.h": text, "layout.c": source}, "layout.c").exists()
