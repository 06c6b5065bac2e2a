"""Textual IR: what it looks like, and what the reader says about text that is none."""

from __future__ import annotations

import pytest

from l7fp.errors import PolicyError
from l7fp.ir.model import (
    Condition,
    DirectResponse,
    Field,
    FieldKind,
    Match,
    Policy,
    RouteTable,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
)
from l7fp.ir.parser import parse_policy
from l7fp.ir.printer import print_policy, print_rule
from l7fp.source import Span

RULE = Rule(
    name="default/reviews/http[0]",
    span=Span("reviews.yaml", 7, 5, 9, 20),
    matches=(
        Match(
            conditions=(
                Condition(
                    field=Field(FieldKind.PATH),
                    any_of=(StringMatch(StringKind.PREFIX, "/a", True), StringMatch(StringKind.EXACT, "/b")),
                ),
                Condition(
                    field=Field(FieldKind.HEADER, "x"),
                    any_of=(StringMatch(StringKind.PRESENT),),
                    negate=True,
                    span=Span("odd name.yaml", 8, 1, 8, 2),
                ),
            )
        ),
    ),
    action=DirectResponse(status=418, body="tea\n"),
)


def test_a_rule_reads_well() -> None:
    assert print_rule(RULE) == (
        'rule "default/reviews/http[0]" @reviews.yaml:7:5-9:20 {\n'
        "  match {\n"
        '    path prefix nocase "/a" | exact "/b"\n'
        '    not header "x" present @"odd name.yaml":8:1-8:2\n'
        "  }\n"
        '  respond 418 "tea\\n"\n'
        "}"
    )


def test_comments_blank_lines_and_indentation_do_not_matter() -> None:
    policy = Policy(
        tables=(RouteTable(port=80, virtual_hosts=(VirtualHost(name="v", domains=("*",), rules=(RULE,)),)),)
    )
    text = print_policy(policy)
    loose = "".join(f"\n# a remark\n   {line.strip()}  \n" for line in text.splitlines())
    assert parse_policy(loose) == parse_policy(text) == policy


def test_an_empty_text_is_an_empty_policy() -> None:
    assert parse_policy("") == Policy()


def _in_rule(line: str) -> str:
    return f'table 80 {{\nvirtual_host "v" {{\nrule "r" {{\n{line}\n}}\n}}\n}}'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("table 80 {", 1, "not closed"),
        ("}", 1, "closes nothing"),
        ("table x", 1, "number"),
        ("table", 1, "number is missing"),
        ("table 80 81", 1, "too much"),
        ("nonsense 1", 1, "not known"),
        ("\n\n?", 3, "unexpected"),
        ('"a string"', 1, "begins with a word"),
        ("path_normalization MAYBE", 1, "none of NONE, BASE"),
        ("path_normalization BASE\npath_normalization BASE", 2, "twice"),
        (_in_rule('respond 200 "a"\nrespond 200 "b"'), 3, "exactly one"),
        (_in_rule(""), 3, "exactly one"),
        (_in_rule('match {\ncolour exact "x"\n}\nroute'), 5, "not a field"),
        (_in_rule('match {\npath fuzzy "x"\n}\nroute'), 5, "none of exact"),
        (_in_rule('respond 200 "\\q"'), 4, "not a string"),
        (_in_rule('route {\nto "c" weight "1"\n}'), 5, "a number is expected"),
    ],
)
def test_errors_name_the_line(text: str, line: int, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    assert f"line {line}:" in caught.value.message
    assert said in caught.value.message
