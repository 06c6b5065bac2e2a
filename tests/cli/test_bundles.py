"""Bundles that are damaged, cut short, or from elsewhere are refused before anything is touched."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import l7fp
from l7fp import abi
from l7fp.cli import app

POLICY = Path(__file__).parent / "policies/shop.yaml"
INSTANCE = "l7fp-cli-test"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "policy.l7fp"
    assert app.status(["compile", str(POLICY), "-o", str(path)]) == 0
    return path.read_bytes()


def _load(data: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    path = folder / "policy.l7fp"
    path.write_bytes(data)
    code = app.status(["load", str(path), "--instance", INSTANCE])
    assert not Path(f"/sys/fs/bpf/{INSTANCE}").exists()
    return code, capsys.readouterr().err.replace(str(path), "policy.l7fp")


def test_one_flipped_bit_anywhere_is_noticed(bundle: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = random.Random(1)
    for at in [4, len(bundle) - 1, *(places.randrange(4, len(bundle)) for _ in range(60))]:
        damaged = bytearray(bundle)
        damaged[at] ^= 1 << places.randrange(8)
        code, said = _load(bytes(damaged), tmp_path, capsys)
        assert (code, said) == (
            1,
            "l7fp: policy.l7fp is damaged: it was altered or cut short\n"
            "  hint: compile the policies again with this version\n",
        )


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999999])
def test_bundle_that_was_cut_short(
    kept: float, bundle: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _load(bundle[: int(len(bundle) * kept)], tmp_path, capsys)
    assert code == 1
    assert said.startswith("l7fp: policy.l7fp is ")
    assert said.count("\n") == 2  # a line and its hint


def test_bundle_of_another_version_names_both(
    bundle: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = l7fp.__version__
    monkeypatch.setattr(l7fp, "__version__", "9.9.9")
    code, said = _load(bundle, tmp_path, capsys)
    assert (code, said.splitlines()[0]) == (1, f"l7fp: policy.l7fp was made by l7fp {made_by}, this is l7fp 9.9.9")


def test_bundle_for_other_memory_layouts(
    bundle: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abi, "fingerprint", lambda: "0" * 16)
    code, said = _load(bundle, tmp_path, capsys)
    assert (code, said.splitlines()[0]) == (1, "l7fp: policy.l7fp was made for another build of the data plane")


def test_what_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _load(b"kind: Service\n", tmp_path, capsys) == (
        1,
        "l7fp: policy.l7fp is not an l7fp bundle\n  hint: make one with l7fp compile\n",
    )


def test_bundle_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["load", str(tmp_path / "x.l7fp")]) == 1
    assert capsys.readouterr().err == f"l7fp: cannot read {tmp_path}/x.l7fp: No such file or directory\n"


def test_two_runs_give_the_same_bytes(bundle: bytes, tmp_path: Path) -> None:
    again = tmp_path / "again.l7fp"
    assert app.status(["compile", str(POLICY), "-o", str(again)]) == 0
    assert again.read_bytes() == bundle


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "absent/policy.l7fp"
    assert app.status(["compile", str(POLICY), "-o", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"l7fp: cannot write {path}: No such file or directory\n  hint: choose another place with -o\n"
    )


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert app.status(["compile", str(POLICY), "--emit", "ir", "-o", str(pipe)]) == 0
        assert os.read(reader, 1 << 20)
        assert pipe.is_fifo()
    finally:
        os.close(reader)
