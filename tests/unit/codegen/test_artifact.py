"""Bundles are the same every time, and nothing but what was written is ever read."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

import l7fp
from l7fp import abi
from l7fp.codegen import artifact, build_bundle
from l7fp.codegen.artifact import Bundle
from l7fp.errors import ArtifactError
from l7fp.ir.passes.classify import classify
from tests.unit.codegen.policies import sample


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle(sample(), classify(sample()))


@pytest.fixture(scope="module")
def data(bundle: Bundle) -> bytes:
    return artifact.to_bytes(bundle)


def test_what_is_read_is_what_was_written(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "p.l7fp"
    artifact.write(bundle, path)
    found = artifact.read(path)
    assert found == bundle
    assert found.plan.tables == bundle.plan.tables
    assert [p.name for p in tmp_path.iterdir()] == ["p.l7fp"]


def test_two_compilations_are_the_same_bytes(data: bytes) -> None:
    assert artifact.to_bytes(build_bundle(sample(), classify(sample()))) == data


def test_it_is_a_zip_with_a_manifest_in_front(data: bytes) -> None:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    assert names[0] == "manifest.json"
    assert {"base.o", "policy.o", "policy.ir", "plan.json", "tables/cells"} < set(names)
    assert manifest["abi"] == abi.fingerprint()
    assert manifest["kernel"]["floor"] == "6.1"
    assert "sk_msg" in manifest["kernel"]["program_types"]
    assert set(manifest["members"]) == set(names) - {"manifest.json"}


def test_coverage_names_the_place_of_every_rule(bundle: Bundle) -> None:
    where = {row["name"]: row["where"] for row in bundle.coverage}
    assert where["r/api"] == "kernel"
    assert where["r/slow"] == "slow path"
    assert where["s/no-admin"] == "kernel"
    (slow,) = [row for row in bundle.coverage if row["name"] == "r/slow"]
    assert slow["reasons"][0]["code"] == "regex"


def test_any_flipped_bit_is_noticed(data: bytes) -> None:
    rng = random.Random(7)
    places = [0, 3, 40, len(data) - 1, len(data) - 70, len(data) - 80, *(rng.randrange(len(data)) for _ in range(40))]
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 1 << rng.randrange(8)
        with pytest.raises(ArtifactError, match=r"damaged|not an l7fp bundle"):
            artifact.from_bytes(bytes(bad), "b")


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -72])
def test_a_truncated_bundle_is_noticed(data: bytes, keep: int) -> None:
    with pytest.raises(ArtifactError, match=r"damaged|not an l7fp bundle"):
        artifact.from_bytes(data[:keep], "b")


def test_trailing_bytes_are_noticed(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.from_bytes(data + b"\n", "b")


Change = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.setattr(l7fp, "__version__", "9.9.9"), "was made by l7fp .*, this is l7fp 9.9.9"),
        (lambda m: m.setattr(artifact, "FORMAT", 99), "has format 1"),
        (lambda m: m.setattr(abi, "fingerprint", lambda: "other"), "another build of the data plane"),
    ],
)
def test_other_versions_are_refused(data: bytes, monkeypatch: pytest.MonkeyPatch, change: Change, message: str) -> None:
    change(monkeypatch)
    with pytest.raises(ArtifactError, match=message) as caught:
        artifact.from_bytes(data, "b")
    assert "compile" in caught.value.hint


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        artifact.read(tmp_path / "absent.l7fp")
    (tmp_path / "text.l7fp").write_text("kind: VirtualService\n")
    with pytest.raises(ArtifactError, match="not an l7fp bundle"):
        artifact.read(tmp_path / "text.l7fp")


def test_a_failed_write_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        artifact.write(bundle, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_plans_do_not_depend_on_the_order_of_hashes() -> None:
    program = (
        "import hashlib\n"
        "from l7fp.codegen import plan_json, render\n"
        "from tests.unit.codegen.policies import planned, sample\n"
        "plan = planned(sample())\n"
        "text = repr((plan_json.dump(plan), plan.tables, sorted(render.render(plan).items())))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    root = Path(__file__).parents[3]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
