"""The bundle: everything that one compilation makes, in one file (`.l7fp`).

A zip archive whose members are stored, dated alike and in a fixed order, so the same input gives the same bytes.
Its comment is the digest of all that precedes it: one changed bit anywhere, or a missing end, is noticed before
anything else is read. The manifest says what made the bundle and what it needs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import l7fp
from l7fp import abi
from l7fp.codegen import plan_json
from l7fp.codegen.plan import Plan
from l7fp.codegen.tables import element_size
from l7fp.errors import ArtifactError
from l7fp.ir.model import Policy
from l7fp.ir.parser import parse_policy
from l7fp.ir.printer import print_policy

FORMAT = 1
SUFFIX = ".l7fp"
_DIGEST = b"sha256:"
_TAIL = len(_DIGEST) + 64
_AGAIN = "compile the policies again with this version"
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One policy version: the whole policy for the slow path, objects and tables for the kernel.

    `manifest` are plain JSON values: format, l7fp, abi, compiler, kernel (floor, program and map types),
    features, counts, rules, coverage.
    """

    manifest: Mapping[str, Any]
    base_object: bytes
    policy_object: bytes
    plan: Plan
    policy: Policy

    @property
    def coverage(self) -> list[dict[str, Any]]:
        """Where each rule and authorization policy is enforced: kind, name, place, where, reasons."""
        found: list[dict[str, Any]] = self.manifest["coverage"]
        return found


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def to_bytes(bundle: Bundle) -> bytes:
    """The file's content."""
    members = {
        "base.o": bundle.base_object,
        "plan.json": _json(plan_json.dump(bundle.plan)),
        "policy.ir": print_policy(bundle.policy).encode("utf-8", "surrogateescape"),
        "policy.o": bundle.policy_object,
    }
    members |= {f"tables/{name}": data for name, data in bundle.plan.tables.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    members["manifest.json"] = _json({**bundle.manifest, "members": digests})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members, key=lambda n: (n != "manifest.json", n)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3  # as on Unix, wherever it is made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])
        archive.comment = bytes(_TAIL)
    body = out.getvalue()[:-_TAIL]
    return body + _DIGEST + hashlib.sha256(body).hexdigest().encode()


def write(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write the bundle: the file is there as a whole or not at all. Raises OSError."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(to_bytes(bundle))
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle. Raises ArtifactError for what is unreadable, damaged or from another version."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise ArtifactError(f"cannot read {path}: {e.strerror or e}") from e
    return from_bytes(data, str(path))


def from_bytes(data: bytes, name: str) -> Bundle:
    """As `read`, for content. `name` is for messages."""
    if not data.startswith(b"PK\x03\x04"):
        raise ArtifactError(f"{name} is not an l7fp bundle", hint="make one with l7fp compile")
    body, tail = data[:-_TAIL], data[-_TAIL:]
    if tail != _DIGEST + hashlib.sha256(body).hexdigest().encode():
        raise ArtifactError(f"{name} is damaged: it was altered or cut short", hint=_AGAIN)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        manifest = json.loads(members.pop("manifest.json"))
        _check_version(manifest, name)
        return _bundle(manifest, members)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as e:
        raise ArtifactError(f"{name} is not a sound bundle: {e}", hint=_AGAIN) from e


def _check_version(manifest: Mapping[str, Any], name: str) -> None:
    made = manifest.get("l7fp", "an unknown version")
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{name} has format {manifest.get('format')} (l7fp {made}), this is l7fp {l7fp.__version__} with {FORMAT}",
            hint=_AGAIN,
        )
    if made != l7fp.__version__:
        raise ArtifactError(f"{name} was made by l7fp {made}, this is l7fp {l7fp.__version__}", hint=_AGAIN)
    if manifest.get("abi") != abi.fingerprint():
        raise ArtifactError(f"{name} was made for another build of the data plane", hint=_AGAIN)


def _bundle(manifest: dict[str, Any], members: dict[str, bytes]) -> Bundle:
    digests = manifest.pop("members")
    if digests != {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}:
        raise ValueError("its members are not those of its manifest")
    tables = {table.name: members[f"tables/{table.name}"] for table in abi.TABLES}
    for name, data in tables.items():
        if not data or len(data) % element_size(name):
            raise ValueError(f"table {name} has an odd length")
    return Bundle(
        manifest=manifest,
        base_object=members["base.o"],
        policy_object=members["policy.o"],
        plan=plan_json.load(json.loads(members["plan.json"]), tables),
        policy=parse_policy(members["policy.ir"].decode("utf-8", "surrogateescape")),
    )
