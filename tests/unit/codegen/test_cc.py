"""Finding and running compilers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from l7fp.codegen import cc, elf, render
from l7fp.errors import CompileError
from tests.unit.codegen.policies import planned, sample

TINY = {"a.bpf.c": 'char LICENSE[] __attribute__((section("license"), used)) = "GPL";\n'}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "l7fp"


def compilers() -> list[str]:
    out = []
    for name in ("zig", "clang"):
        try:
            cc.find_compiler(name)
        except CompileError:
            continue
        out.append(name)
    return out


def fake(folder: Path, name: str, says: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_an_old_clang_is_refused_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", "clang", "Debian clang version 14.0.6")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    with pytest.raises(CompileError, match="version 14 is too old") as caught:
        cc.find_compiler(str(tmp_path / "bin" / "clang"))
    assert "l7fp[cc]" in caught.value.hint


def test_no_compiler_is_one_message_with_a_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cc.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="no compiler for BPF: zig: the ziglang wheel is not installed") as caught:
        cc.find_compiler()
    assert "clang >= 16" in caught.value.hint
    with pytest.raises(CompileError, match="no C compiler"):
        cc.compile_host({"a.c": ""}, "a.c")


def test_a_compiler_error_is_reported_with_its_line() -> None:
    with pytest.raises(CompileError, match=r"refused a\.bpf\.c: a\.bpf\.c:1:.*error"):
        cc.compile_bpf({"a.bpf.c": "int f( {"}, "a.bpf.c")


@pytest.mark.parametrize("name", compilers())
def test_both_compilers_make_sound_objects_without_paths(name: str) -> None:
    obj = cc.compile_bpf(render.render(planned(sample())), "policy.bpf.c", compiler=name)
    info = elf.inspect(obj)
    elf.check(info)
    assert [p.name for p in info.programs] == ["msg"]
    for word in (b"/tmp/", b"l7fp-cc-", os.path.expanduser("~").encode() + b"/"):
        assert word not in obj


def test_same_input_same_bytes_without_the_cache(own_cache: Path) -> None:
    sources = render.render(planned(sample()))
    one = cc.compile_bpf(sources, "policy.bpf.c")
    for path in own_cache.glob("*.o"):
        path.unlink()
    assert cc.compile_bpf(sources, "policy.bpf.c") == one


def test_the_cache_is_keyed_by_content(own_cache: Path) -> None:
    cc.compile_bpf(TINY, "a.bpf.c")
    (stored,) = own_cache.glob("*.o")
    stored.write_bytes(b"from the cache")
    assert cc.compile_bpf(TINY, "a.bpf.c") == b"from the cache"
    changed = {"a.bpf.c": TINY["a.bpf.c"] + "int x;\n"}
    assert cc.compile_bpf(changed, "a.bpf.c") != b"from the cache"


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cc.compile_bpf(TINY, "a.bpf.c").startswith(b"\x7fELF")
