"""Spanned YAML: what is read, where it is, and what is refused."""

from __future__ import annotations

import time

import pytest
import yaml

from l7fp.diagnostics import Diagnostics
from l7fp.frontend.yaml import Mapping, Node, Scalar, Sequence, parse
from l7fp.source import SourceFile, Span


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: wheels without libyaml have the slow one alone."""
    if not hasattr(yaml, request.param):
        pytest.skip("this PyYAML has no libyaml")
    monkeypatch.setattr("l7fp.frontend.yaml._LOADER", getattr(yaml, request.param))


def _parse(text: str, name: str = "t.yaml") -> tuple[list[Node], list[tuple[str, Span]]]:
    sink = Diagnostics()
    nodes = parse(SourceFile(name, text), sink)
    return nodes, [(found.code, found.span) for found in sink]


def _codes(text: str, name: str = "t.yaml") -> list[str]:
    return [code for code, _ in _parse(text, name)[1]]


def _plain(node: Node) -> object:
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [_plain(item) for item in node.items]
        case Mapping():
            return {name.value: _plain(value) for name, value in node.items}


def test_places_are_lines_and_columns_from_one() -> None:
    (document,), _ = _parse("spec:\n  hosts:\n  - web\n  - 'étés'\nlast: x\n")
    assert isinstance(document, Mapping)
    spec = document.get("spec")
    assert isinstance(spec, Mapping)
    hosts = spec.get("hosts")
    assert isinstance(hosts, Sequence)
    assert hosts.items[0].span == Span("t.yaml", 3, 5, 3, 8)
    assert hosts.items[1].span == Span("t.yaml", 4, 5, 4, 11)
    assert spec.span == Span("t.yaml", 2, 3, 4, 11), "a block ends with its last item, not where the next key starts"


def test_documents_of_a_stream_come_in_order_without_empty_ones() -> None:
    nodes, findings = _parse("a: 1\n---\n---\n# comment\n---\nb: 2\n...\n")
    assert [_plain(node) for node in nodes] == [{"a": "1"}, {"b": "2"}]
    assert findings == []


def test_nothing_is_resolved_but_quoting_is_known() -> None:
    (document,), _ = _parse("on: yes\nno: 'no'\nn: 017\nblock: |\n  text\nstr: !!str 5\n")
    assert isinstance(document, Mapping)
    assert [(k.value, v.value, v.quoted) for k, v in document.items if isinstance(v, Scalar)] == [
        ("on", "yes", False),
        ("no", "no", True),
        ("n", "017", False),
        ("block", "text\n", True),
        ("str", "5", True),
    ]


def test_duplicate_key_is_an_error_at_the_second_one() -> None:
    nodes, findings = _parse("a: 1\nb: 2\na: 3\n")
    assert findings == [("L7FP104", Span("t.yaml", 3, 1, 3, 2))]
    assert _plain(nodes[0]) == {"a": "1", "b": "2"}


def test_merge_keys_are_spliced_in_and_own_keys_win() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nuse:\n  <<: [*b, *m]\n  x: own\n"
    (document,), findings = _parse(text)
    assert findings == []
    assert isinstance(document, Mapping)
    use = document.get("use")
    assert use is not None
    assert _plain(use) == {"x": "own", "y": "2", "z": "4"}


def test_quoted_merge_sign_is_an_ordinary_key() -> None:
    (document,), findings = _parse("'<<': 1\n")
    assert (_plain(document), findings) == ({"<<": "1"}, [])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [1\nb: 2\n", "L7FP103"),
        ("a:\n\t- b\n", "L7FP103"),
        ("a: b: c\n", "L7FP103"),
        ("? [x]\n: y\n", "L7FP103"),
        ("a: \x01\n", "L7FP103"),
        ("a: &x [*x]\n", "L7FP106"),
        ("a: *nowhere\n", "L7FP106"),
        ("<<: text\n", "L7FP107"),
        ("a: !!binary aGk=\n", "L7FP109"),
        ("a: !Ref {b: c}\n", "L7FP109"),
    ],
)
def test_what_cannot_be_read_is_one_finding(text: str, code: str) -> None:
    assert _codes(text) == [code]


def test_documents_before_a_syntax_error_are_kept() -> None:
    nodes, findings = _parse("a: 1\n---\nb: [\n")
    assert [_plain(node) for node in nodes] == [{"a": "1"}]
    assert [code for code, _ in findings] == ["L7FP103"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_deep_nesting_is_refused_without_harm(text: str) -> None:
    assert _codes(text) == ["L7FP106"]


def test_nesting_through_aliases_counts() -> None:
    half = "[" * 60 + "x" + "]" * 60
    assert _codes(f"a: &a {half}\nb: {'[' * 60}*a{']' * 60}\n") == ["L7FP106"]


def test_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    started = time.process_time()
    assert _codes("\n".join(lines)) == ["L7FP106"]
    assert time.process_time() - started < 2


def test_json_is_read_with_tabs_escaped_slashes_and_surrogate_pairs() -> None:
    (document,), findings = _parse('{\n\t"a": "b\\/c",\n\t"d": "\\ud83d\\ude00"\n}', "t.json")
    assert (_plain(document), findings) == ({"a": "b/c", "d": "\U0001f600"}, [])
