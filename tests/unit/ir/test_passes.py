from __future__ import annotations

import pytest

from l7fp.diagnostics import Diagnostics
from l7fp.ir import passes
from l7fp.ir.matching import compile_string
from l7fp.ir.model import CidrMatch, Policy, Rule
from l7fp.ir.parser import parse_policy
from l7fp.ir.passes.normalise import normalise
from l7fp.ir.passes.simplify import simplify
from l7fp.ir.printer import print_policy


def host(*rules: str, domains: str = '"a.b"') -> Policy:
    return parse_policy(f'table 80 {{\nvirtual_host "v" {{\ndomains {domains}\n' + "\n".join(rules) + "\n}\n}")


def rule(name: str, *matches: str, action: str = 'respond 200 ""') -> str:
    found = "".join(f"match {{\n{m}\n}}\n" for m in matches)
    return f'rule "{name}" @p.yaml:{len(name)}:1-2:2 {{\n{found}{action}\n}}'


def only(policy: Policy) -> Rule:
    return policy.tables[0].virtual_hosts[0].rules[0]


def test_the_pipeline_can_be_watched() -> None:
    seen: list[str] = []
    passes.run(host(rule("r")), after=lambda name, _: seen.append(name))
    assert seen == [name for name, _ in passes.PIPELINE] == ["normalise", "simplify"]


def test_normalise_spells_everything_in_one_way() -> None:
    made = normalise(
        host(
            rule("r", 'source.ip cidr "10.1.2.3/8"\nheader "X-A" exact nocase "VaLue"\nmethod exact "b" | exact "a"'),
            domains='"A.B." "a.b" "C.D.:80"',
        )
    )
    assert made.tables[0].virtual_hosts[0].domains == ("a.b", "c.d:80")
    source, header, method = only(made).matches[0].conditions
    assert source.any_of == (CidrMatch("10.0.0.0/8"),)
    assert header.field.name == "x-a"
    assert compile_string(header.any_of[0])("vALUE")  # type: ignore[arg-type]
    assert [m.value for m in method.any_of] == ["a", "b"]  # type: ignore[union-attr]


def test_normalise_keeps_the_order_of_path_matchers() -> None:
    made = normalise(host(rule("r", 'path prefix "/b" | prefix "/a" | prefix "/b"')))
    assert [m.value for m in only(made).matches[0].conditions[0].any_of] == ["/b", "/a"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "always",
    [
        "path present",
        'path prefix "/"',
        "method present",
        "not request.principal present",
        "not connection.sni present",
    ],
)
def test_what_always_holds_is_left_out(always: str) -> None:
    assert only(simplify(host(rule("r", f'{always}\nheader "x" present')))).matches[0].conditions[1:] == ()


@pytest.mark.parametrize(
    "never",
    ["request.principal present", "path never", 'method exact "GET"\nmethod exact "PUT"', "not path present"],
)
def test_what_never_holds_goes_unless_it_is_all(never: str) -> None:
    made = only(simplify(host(rule("r", never, 'path exact "/a"'))))
    assert len(made.matches) == 1
    assert '"/a"' in print_policy(simplify(host(rule("r", never, 'path exact "/a"'))))
    assert len(only(simplify(host(rule("r", never)))).matches) == 1


def test_repetitions_go() -> None:
    made = only(simplify(host(rule("r", 'method exact "A"\nmethod exact "A"', 'method exact "A"'))))
    assert len(made.matches) == 1
    assert len(made.matches[0].conditions) == 1


def test_two_values_of_a_repeated_header_do_not_exclude_each_other() -> None:
    two = 'header "x" exact "a"\nheader "x" exact "b"'
    assert len(only(simplify(host(rule("r", two, 'path exact "/a"')))).matches) == 2


def test_a_prefix_rewrite_keeps_its_prefix() -> None:
    action = 'redirect 301 {\nprefix_rewrite "/n/"\n}'
    made = only(simplify(host(rule("r", 'path prefix "/"\npath suffix "x"', action=action))))
    assert len(made.matches[0].conditions) == 2


def test_an_impossible_authorization_rule_goes() -> None:
    text = 'authz "n/p" DENY {\nrule {\nsource {\nrequest.principal present\n}\n}\nrule {\noperation\n}\n}'
    (made,) = simplify(parse_policy(text)).authz
    assert len(made.rules) == 1
    assert made.rules[0].operations == ()


def shadowed(*rules: str) -> list[tuple[str, str]]:
    found = Diagnostics()
    passes.findings(host(*rules), found)
    return [(d.code, d.message) for d in found]


def test_a_rule_behind_a_wider_one_is_reported_with_its_taker() -> None:
    ((code, message),) = shadowed(
        rule("wide", 'path prefix "/a"'), rule("narrow", 'path prefix "/ab"\nmethod exact "X"')
    )
    assert code == "L7FP601"
    assert message == "narrow is never reached: wide (p.yaml:4:1) takes its requests"


def test_everything_behind_a_rule_without_matches_is_unreachable() -> None:
    assert [code for code, _ in shadowed(rule("all"), rule("b", 'path exact "/x"'), rule("c"))] == ["L7FP601"] * 2


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('path prefix "/ab"', 'path prefix "/a"'),
        ('path exact "/a"', 'path exact nocase "/a"'),
        ('path prefix "/a"\nheader "x" present', 'path prefix "/a"'),
        ('header "x" exact "a"', 'header "x" present'),
        ('not header "x" exact "a" | exact "b"', 'not header "x" exact "a"'),
        ('not header "x" exact "a"', 'header "x" exact "b"'),
        ('path template "/{*}"', 'path prefix "/a"'),
        ('source.ip cidr "10.1.0.0/16"', 'source.ip cidr "10.0.0.0/8"'),
        ("request.principal present", 'path prefix "/a"'),
    ],
)
def test_a_rule_that_can_be_reached_is_not_reported(earlier: str, later: str) -> None:
    assert not [1 for code, _ in shadowed(rule("earlier", earlier), rule("later", later)) if code == "L7FP601"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('path prefix "/a"', 'path template "/a/{*}"'),
        ('path prefix nocase "/A"', 'path prefix "/ab"'),
        ('path regex "/a.*"', 'path exact "/abc"'),
        ('path suffix "c"', 'path suffix "bc"'),
        ('path contains "b"', 'path prefix "/abc"'),
        ('header "x" present', 'header "x" regex "a"'),
        ('not header "x" exact "a"', 'not header "x" prefix "a"'),
        ('not path exact "/a"', 'path exact "/b"'),
        ('source.ip cidr "10.0.0.0/8"', 'source.ip cidr "10.1.0.0/16"'),
        ('path prefix "/"', 'method exact "GET"'),
        ('method exact "GET" | exact "PUT"', 'method exact "PUT"'),
    ],
)
def test_a_rule_that_cannot_be_reached_is_reported(earlier: str, later: str) -> None:
    assert "L7FP601" in [code for code, _ in shadowed(rule("earlier", earlier), rule("later", later))]


def test_one_unreachable_match_of_several_is_reported_by_itself() -> None:
    ((code, message),) = shadowed(rule("a", 'path prefix "/a"'), rule("b", 'path exact "/x"', 'path exact "/a/b"'))
    assert code == "L7FP603"
    assert message.startswith("match 1 of b is never reached")


def test_a_match_that_cannot_hold_is_reported() -> None:
    ((code, _),) = shadowed(rule("r", 'method exact "A"\nmethod exact "B"'))
    assert code == "L7FP602"


def test_ten_thousand_rules_are_checked_in_little_time() -> None:
    rules = [rule(f"r{i}", f'path prefix "/service-{i}/"') for i in range(10_000)]
    assert shadowed(*rules) == []
