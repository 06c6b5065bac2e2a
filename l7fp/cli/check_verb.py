"""`l7fp check`: findings about policies."""

from __future__ import annotations

import click

from l7fp.cli import render
from l7fp.cli.output import print_json, stdout_style


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=click.Choice(render.FORMATS), default="text", help="How findings are shown.")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option("--strict", is_flag=True, help="Exit 1 on warnings too.")
def command(files: tuple[str, ...], form: str, as_json: bool, strict: bool) -> int:
    """Check policies without compiling them: FILE, folder, or - for standard input.

    Exits 1 when there are errors. Needs no root, kernel or compiler.
    """
    from l7fp.cli import pipeline

    loaded = pipeline.load(files, quiet=True)
    found = loaded.diagnostics
    bad = found.failed or (strict and len(found) > 0)
    if as_json or form == "json":
        print_json({"ok": not bad, "files": sorted(loaded.sources), "findings": render.as_json(found)})
    elif form == "github":
        if len(found):
            click.echo(render.github(found))
    else:
        if len(found):
            click.echo(render.text(found, loaded.sources, stdout_style()) + "\n")
        files_read = len(loaded.sources)
        click.echo(f"{render.summary(found)} in {files_read} file{'' if files_read == 1 else 's'}")
    return int(bad)
