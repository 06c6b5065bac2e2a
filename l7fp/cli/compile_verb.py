"""`l7fp compile`: policies into a bundle, or one stage of the way there."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l7fp.cli.output import Style, print_json, stdout_style, table
from l7fp.cli.progress import progress
from l7fp.cli.render import as_json as findings_as_json
from l7fp.cli.render import place
from l7fp.errors import L7fpError, UsageError

if TYPE_CHECKING:
    from l7fp.analysis.coverage import Row

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
    from l7fp.analysis import coverage
    from l7fp.cli import pipeline
    from l7fp.codegen import artifact

    with progress("compiling") as say:
        made = pipeline.compiled(files, say)
    path = output or DEFAULT_OUTPUT
    _write(path, lambda: artifact.write(made.bundle, path))
    rows = coverage.rows(made.policy, made.classification)
    size, digest = Path(path).stat().st_size, hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if as_json:
        found = findings_as_json(made.loaded.diagnostics)
        print_json({"bundle": path, "bytes": size, "sha256": digest, **coverage_json(rows), "findings": found})
    else:
        click.echo(coverage_text(rows, stdout_style()))
        click.echo(f"wrote {path}: {size:,} bytes, sha256 {digest[:16]}")
    return 0


def _write(path: str, write: Any) -> None:
    try:
        write()
    except OSError as error:
        hint = "choose another place with -o"
        raise L7fpError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def coverage_text(rows: list[Row], style: Style) -> str:
    """The table: rule, place, where, and below it each reason with its mend."""
    lines = [["rule", "where", "place"]]
    lines += [[row.name, "kernel" if row.in_kernel else "slow path", str(row.span)] for row in rows]
    header, *body = table(lines).split("\n")
    out = [style.strong(header)]
    for row, line in zip(rows, body, strict=True):
        out.append(line if row.in_kernel else style.warn(line))
        for reason in row.reasons:
            at = "" if reason.span == row.span else f" ({reason.span})"
            out.append(f"    {reason.message}{at}")
            if reason.hint:
                out.append(f"    {style.dim('hint:')} {reason.hint}")
    kernel = sum(row.in_kernel for row in rows)
    share = f" ({100 * kernel / len(rows):.0f} %)" if rows else ""
    out.append(f"{kernel} of {len(rows)} in the kernel{share}")
    return "\n".join(out)


def coverage_json(rows: list[Row]) -> dict[str, Any]:
    """The same as values."""
    return {
        "kernel": sum(row.in_kernel for row in rows),
        "total": len(rows),
        "rules": [
            {
                "kind": row.kind,
                "name": row.name,
                "where": "kernel" if row.in_kernel else "slow path",
                "place": place(row.span),
                "reasons": [
                    {"code": r.code, "message": r.message, "hint": r.hint, "place": place(r.span)} for r in row.reasons
                ],
            }
            for row in rows
        ],
    }


def _emit(files: tuple[str, ...], stage: str, output: str | None) -> int:
    from l7fp.cli import pipeline

    if stage == "obj" and output is None and sys.stdout.isatty():
        raise UsageError("an object is no text for a terminal", hint="l7fp compile --emit obj -o policy.o …")
    with progress("compiling"):
        data = pipeline.stage(files, stage)
    if output:
        _write(output, lambda: Path(output).write_bytes(data))
    else:
        sys.stdout.buffer.write(data)
    return 0
