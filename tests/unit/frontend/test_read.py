"""Files, folders and standard input; each thing that can't be read is one clear finding."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from l7fp.diagnostics import Severity
from l7fp.frontend import load

SERVICE = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n"
)


def _errors(*paths: Path | str) -> list[tuple[str, str]]:
    found = load([str(path) for path in paths]).diagnostics
    return [(item.code, str(item.span)) for item in found if item.severity is Severity.ERROR]


def _names(*paths: Path | str) -> list[str]:
    return [item.name for item in load([str(path) for path in paths]).ast.objects]


def test_folder_is_read_recursively_in_order_and_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("z.yaml", "b/a.yml", "b/c/d.json", "a.txt", ".hidden/x.yaml", ".y.yaml"):
        (tmp_path / name).write_text(SERVICE % Path(name).stem.strip("."))
    (tmp_path / "b/c/d.json").write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d"}}')
    assert _names(tmp_path) == ["z", "a", "d"]


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO((SERVICE % "piped").encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    loaded = load(["-"])
    assert [item.name for item in loaded.ast.objects] == ["piped"]
    assert list(loaded.sources) == ["<stdin>"]


def test_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE % "a")
    assert _names(path, path, tmp_path) == ["a"]


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    assert _errors(tmp_path / "none.yaml") == [("L7FP110", f"{tmp_path}/none.yaml:1:1")]
    assert _errors(tmp_path) == [("L7FP110", f"{tmp_path}:1:1")]


def test_binary_and_foreign_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for data, place in ((b"a: b\nc: \xff\n", "2:4"), (b"\xff\xfea\0", "1:1"), (b"a: \0\n", "1:1")):
        path.write_bytes(data)
        assert _errors(path) == [("L7FP102", f"{path}:{place}")]


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (SERVICE % "a").encode())
    assert _errors(path) == []


def test_empty_file_alone_is_an_error_and_beside_others_a_warning(tmp_path: Path) -> None:
    empty, full = tmp_path / "a.yaml", tmp_path / "b.yaml"
    empty.write_text("# nothing\n---\n")
    full.write_text(SERVICE % "b")
    assert _errors(empty) == [("L7FP105", f"{empty}:1:1")]
    assert _errors(tmp_path) == []
    assert "L7FP105" in [item.code for item in load([str(tmp_path)]).diagnostics]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: b")
    path.chmod(0)
    assert _errors(path) == [("L7FP101", f"{path}:1:1")]


def test_device_is_not_read() -> None:
    assert _errors("/dev/zero") == [("L7FP101", "/dev/zero:1:1")]


def test_several_files_make_one_policy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE % "a")
    (tmp_path / "b.yaml").write_text(SERVICE % "b")
    loaded = load([str(tmp_path)])
    assert loaded.policy is not None
    assert [service.host for service in loaded.policy.services] == [
        "a.default.svc.cluster.local",
        "b.default.svc.cluster.local",
    ]


def test_kustomize_file_in_a_folder_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (tmp_path / "a.yaml").write_text(SERVICE % "a")
    assert _errors(tmp_path) == []
