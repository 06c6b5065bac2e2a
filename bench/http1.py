"""`l7fp bench http1`: the contestants side by side."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench import machine, runner
from bench.drivers.base import Driver
from bench.drivers.direct import Direct
from bench.drivers.envoy import EnvoySidecars
from bench.drivers.l7fp import L7fpKernel, L7fpSlow
from bench.report import Report
from bench.scenarios import HTTP1, Scenario
from l7fp.errors import L7fpError, UsageError

QUICK_DRIVERS = ("direct", "envoy1", "envoy2", "l7fp", "l7fp-slow")


def drivers() -> list[Driver]:
    """All contestants, none of them started."""
    sidecars = [EnvoySidecars(count, threads) for count in (1, 2) for threads in (1, 2)]
    return [Direct(), *sidecars, L7fpKernel(), L7fpSlow()]


def choose(names: Sequence[str], all_names: Sequence[str], what: str) -> None:
    """Refuse a name that isn't there."""
    for name in names:
        if name not in all_names:
            raise UsageError(f"no {what} is called {name!r}", hint="one of " + ", ".join(all_names))


def run(
    *,
    quick: bool = False,
    rounds: int | None = None,
    seconds: int | None = None,
    only_drivers: Sequence[str] = (),
    only_scenarios: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure. A contestant that can't run here is named in the report with the reason; the others go on."""
    rounds = rounds or (1 if quick else 5)
    seconds = seconds or (2 if quick else 4)
    everyone = drivers()
    choose(only_drivers, [d.name for d in everyone], "contestant")
    choose(only_scenarios, [s.name for s in HTTP1], "scenario")
    wanted = only_drivers or (QUICK_DRIVERS if quick else [d.name for d in everyone])
    scenarios = [s for s in HTTP1 if _wanted(s, quick, only_scenarios)]
    present, absent = _probe([d for d in everyone if d.name in wanted], report)
    results = runner.run(present, scenarios, rounds=rounds, seconds=seconds, report=report) if present else []
    words = ["l7fp", "bench", "http1", *(["--quick"] if quick else []), "--rounds", str(rounds)]
    words += ["--seconds", str(seconds), *(w for d in only_drivers for w in ("--driver", d))]
    words += [w for s in only_scenarios for w in ("--scenario", s)]
    return Report(
        machine=machine.describe(),
        command=shlex.join(words),
        rounds=rounds,
        seconds=seconds,
        titles={d.name: d.title for d in present},
        absent=absent,
        scenarios=scenarios,
        results=results,
    )


def _wanted(scenario: Scenario, quick: bool, only: Sequence[str]) -> bool:
    return scenario.name in only if only else scenario.quick or not quick


def _probe(chosen: Sequence[Driver], report: Callable[[str], None]) -> tuple[list[Driver], dict[str, str]]:
    """Who can start here, and why the others can't."""
    present: list[Driver] = []
    absent: dict[str, str] = {}
    for driver in chosen:
        report(f"trying {driver.title}")
        with ExitStack() as stack:
            stack.callback(driver.stop)
            try:
                driver.start()
            except L7fpError as error:
                absent[driver.name] = str(error)
                continue
        present.append(driver)
    return present, absent
