"""Each invariant, broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l7fp.ir.fields import FIELDS
from l7fp.ir.model import FieldKind, HeaderEdits, Policy, Route
from l7fp.ir.parser import parse_policy
from l7fp.ir.verify import verify

BASE = """
table 80 {
  virtual_host "v" {
    domains "a.b"
    rule "r" {
      MATCH
      ACTION
    }
  }
}
cluster "c" {
  endpoint "10.0.0.1" 80 workload "w"
}
workload "w" {
  namespace "n"
  policies "n/p"
}
authz "n/p" ALLOW
"""


def policy(match: str = "", action: str = 'route {\nto "c"\n}', text: str = BASE) -> Policy:
    match = f"match {{\n{match}\n}}" if match else ""
    return parse_policy(text.replace("MATCH", match).replace("ACTION", action))


def test_a_sound_policy() -> None:
    assert verify(policy()) == []


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ('header "X-Upper" exact "v"', "not a header to match"),
        ('header "host" exact "v"', "not a header to match"),
        ('header "a b" exact "v"', "not a header to match"),
        ('header "" exact "v"', "needs a name"),
        ('path cidr "10.0.0.0/8"', "does not fit"),
        ('source.ip exact "10.0.0.1"', "does not fit"),
        ('source.ip cidr "10.0.0.1/8"', "canonical"),
        ('source.ip cidr "nonsense"', "canonical"),
        ("destination.port port 0", "not a port"),
        ("destination.port port 65536", "not a port"),
        ('path regex "("', "RE2"),
        ('path template "/{x}"', "braces"),
        ('method template "/{*}"', "paths only"),
        ("path present nocase", "takes no value"),
    ],
)
def test_broken_conditions(match: str, said: str) -> None:
    assert any(said in line for line in verify(policy(match))), verify(policy(match))


def test_a_huge_regex() -> None:
    assert any("1024" in line for line in verify(policy(f'path regex "{"a" * 1025}"')))


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ('route {\nto "d"\n}', "unknown cluster"),
        ("route", "no destinations"),
        ('route {\nto "c" weight -1\n}', "weight -1"),
        ('route {\nto "c"\nrewrite_path prefix "x"\n}', "not a path"),
        ('route {\nto "c"\nrewrite_path full "/x?y"\n}', "not a path"),
        ('route {\nto "c"\nrewrite_path regex "/\\\\x" regex_pattern "a"\n}', "RE2 substitution"),
        ('route {\nto "c"\nrewrite_path regex "/" regex_pattern "("\n}', "RE2"),
        ('route {\nto "c"\nrewrite_authority "a b"\n}', "not an authority"),
        ('route {\nto "c"\ntimeout_ms 0\n}', "timeout of 0"),
        ('route {\nto "c"\nretry -1\n}', "retries"),
        ('route {\nto "c"\nrequest {\nset "host" "x"\n}\n}', "can be edited"),
        ('route {\nto "c"\nrequest {\nset ":path" "x"\n}\n}', "can be edited"),
        ('route {\nto "c"\nresponse {\nset "x" "a\\r\\nb: c"\n}\n}', "not a header value"),
        ("redirect 200", "not in 300..399"),
        ('redirect 301 {\npath "/a"\nprefix_rewrite "/b"\n}', "exclude"),
        ('redirect 301 {\nauthority "a\\r\\nx: y"\n}', "Location"),
        ('respond 99 ""', "not in 200..599"),
    ],
)
def test_broken_actions(action: str, said: str) -> None:
    found = verify(policy(action=action))
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('domains "a.b"', 'domains "A.b"', "not a domain"),
        ('domains "a.b"', 'domains "a.*"', "not a domain"),
        ('domains "a.b"', 'domains "*a.b"', "no label"),
        ('domains "a.b"', 'domains "a.b" "a.b"', "claimed 2 times"),
        ('domains "a.b"', 'domains "a.b"\naddresses "a.b"', "not an address"),
        ('workload "w"\n', 'workload "x"\n', "unknown workload x"),
        ('policies "n/p"', 'policies "n/q"', "unknown policy n/q"),
        ('policies "n/p"', 'policies "n/p"\naddresses "w"', "not an address"),
        ("table 80 {", "table 0 {", "not a port"),
        ('cluster "c" {', 'cluster "d"\ncluster "c" {', "not sorted"),
        ('endpoint "10.0.0.1" 80', 'endpoint "10.0.0.1" 0', "not a port"),
    ],
)
def test_broken_names_and_places(old: str, new: str, said: str) -> None:
    found = verify(policy(text=BASE.replace(old, new)))
    assert any(said in line for line in found), found


def test_two_rules_of_one_name_must_be_one_rule() -> None:
    sound = policy()
    (table,) = sound.tables
    (host,) = table.virtual_hosts
    (rule,) = host.rules
    assert isinstance(rule.action, Route)
    other = replace(rule, action=replace(rule.action, request_headers=HeaderEdits(remove=("x",))))
    twice = replace(table, virtual_hosts=(replace(host, rules=(rule, rule)),))
    differ = replace(table, virtual_hosts=(replace(host, rules=(rule, other)),))
    assert verify(replace(sound, tables=(twice,))) == []
    assert any("two different rules" in line for line in verify(replace(sound, tables=(differ,))))


def test_the_registry_knows_every_field() -> None:
    assert set(FIELDS) == set(FieldKind)
