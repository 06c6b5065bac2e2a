"""`l7fp compile`: policies into a bundle, or one stage of the way there."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from l7fp.cli.output import Style, print_json, stdout_style, table
from l7fp.cli.progress import progress
from l7fp.cli.render import as_json as findings_as_json
from l7fp.errors import L7fpError, UsageError

STAGES = ("ast", "ir", "plan", "c", "obj")
DEFAULT_OUTPUT = "policy.l7fp"


@click.command("compile")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", metavar="PATH", help=f"Where to write (default {DEFAULT_OUTPUT}; a stage: stdout).")
@click.option("--emit", type=click.Choice(STAGES), help="Print one stage instead of making a bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the coverage as JSON.")
def command(files: tuple[str, ...], output: str | None, emit: str | None, as_json: bool) -> int:
    """Compile policies into one bundle and show which rules the kernel enforces, and why the others not.

    FILE is a file, a folder, or - for standard input. The same input gives the same bytes. Needs clang 16 or later
    or the ziglang package; no root.
    """
    if emit:
        return _emit(files, emit, output)
    from l7fp.cli import pipeline
    from l7fp.codegen import artifact

    with progress("compiling") as say:
        made = pipeline.compiled(files, say)
    path = output or DEFAULT_OUTPUT
    data = artifact.to_bytes(made.bundle)
    write(path, data)
    rows, digest = made.bundle.coverage, hashlib.sha256(data).hexdigest()
    if as_json:
        kernel = sum(row["where"] == "kernel" for row in rows)
        found = findings_as_json(made.loaded.diagnostics)
        result = {"bundle": path, "bytes": len(data), "sha256": digest, "kernel": kernel, "total": len(rows)}
        print_json({**result, "rules": rows, "findings": found})
    else:
        click.echo(coverage_text(rows, stdout_style()))
        click.echo(f"wrote {path}: {len(data):,} bytes, sha256 {digest[:16]}")
    return 0


def write(path: str, data: bytes) -> None:
    """A file is there as a whole or not at all; devices and pipes are written to as they are."""
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_bytes(data)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        hint = "choose another place with -o"
        raise L7fpError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def coverage_text(rows: Sequence[Mapping[str, Any]], style: Style) -> str:
    """The table: rule, where, place, and below a rule each reason why the kernel leaves it to the slow path.

    Routes to pods' own addresses, which nobody wrote, are only counted.
    """
    implied = [row for row in rows if row["name"].endswith("/direct") and not row["reasons"]]
    rows = [row for row in rows if row not in implied]
    lines = [["rule", "where", "place"], *([row["name"], row["where"], row["place"]] for row in rows)]
    header, *body = table(lines).split("\n")
    out = [style.strong(header)]
    for row, line in zip(rows, body, strict=True):
        out.append(style.warn(line) if row["reasons"] else line)
        for reason in row["reasons"]:
            at = "" if reason["place"] == row["place"] else f" ({reason['place']})"
            out.append(f"    {reason['message']}{at}")
            if reason["hint"]:
                out.append(f"    {style.dim('hint:')} {reason['hint']}")
    kernel = sum(row["where"] == "kernel" for row in rows)
    share = f" ({100 * kernel / len(rows):.0f} %)" if rows else ""
    also = f"; {len(implied)} more lead to endpoints addressed directly" if implied else ""
    out.append(f"{kernel} of {len(rows)} in the kernel{share}{also}")
    return "\n".join(out)


def _emit(files: tuple[str, ...], stage: str, output: str | None) -> int:
    from l7fp.cli import pipeline

    if stage == "obj" and output is None and sys.stdout.isatty():
        raise UsageError("an object is no text for a terminal", hint="l7fp compile --emit obj -o policy.o …")
    with progress("compiling"):
        data = pipeline.stage(files, stage)
    if output:
        write(output, data)
    else:
        sys.stdout.buffer.write(data)
    return 0
