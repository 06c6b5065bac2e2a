"""Interleaved rounds: every contestant carries every load once a round, so that what drifts drifts for all."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import rules, wrk
from bench.drivers.base import Driver
from bench.scenarios import Scenario
from bench.wrk import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Medians over the rounds of one contestant in one scenario; `samples` are the rounds.

    `offload`: share of the requests that the kernel dealt with, None where there is no kernel path.
    """

    scenario: str
    driver: str
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float
    machine_us: float
    bad: int
    offload: float | None
    samples: tuple[Sample, ...]


def _summarise(scenario: str, driver: str, samples: Sequence[Sample]) -> Result:
    def middle(of: Callable[[Sample], float]) -> float:
        return statistics.median(of(s) for s in samples)

    shares = [s.offload for s in samples if s.offload is not None]
    return Result(
        scenario=scenario,
        driver=driver,
        rate=middle(lambda s: s.rate),
        p50_us=middle(lambda s: s.p50_us),
        p99_us=middle(lambda s: s.p99_us),
        cpu_us=middle(lambda s: s.cpu_us),
        machine_us=middle(lambda s: s.machine_us),
        bad=sum(s.bad for s in samples),
        offload=statistics.median(shares) if shares else None,
        samples=tuple(samples),
    )


def run(
    drivers: Sequence[Driver],
    scenarios: Sequence[Scenario],
    *,
    rounds: int,
    seconds: int,
    warm_up_seconds: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Bring all contestants up, run the rounds, take them down. `report` is told what is under way.

    One contestant works at a time; the others idle. A first, short run of each is thrown away.
    """
    samples: dict[tuple[str, str], list[Sample]] = {}
    with ExitStack() as stack:
        for driver in drivers:
            stack.callback(driver.stop)
            report(f"starting {driver.title}")
            driver.start()
            warm = dataclasses.replace(scenarios[0].load, seconds=warm_up_seconds)
            _once(driver, warm)
        for number in range(rounds):
            for scenario in scenarios:
                for driver in drivers:
                    if scenario.drivers and driver.name not in scenario.drivers:
                        continue
                    report(f"round {number + 1}/{rounds}: {scenario.title}: {driver.title}")
                    sample = _once(driver, dataclasses.replace(scenario.load, seconds=seconds))
                    samples.setdefault((scenario.name, driver.name), []).append(sample)
    return [_summarise(scenario, driver, made) for (scenario, driver), made in samples.items()]


def _once(driver: Driver, load: wrk.Load) -> Sample:
    before = driver.handled()
    sample = wrk.run(load, url=driver.url, host=rules.HOST, pids=driver.pids, cgroup=driver.client_cgroup)
    after = driver.handled()
    if before is None or after is None:
        return sample
    kernel, diverted = after[0] - before[0], after[1] - before[1]
    return dataclasses.replace(sample, offload=kernel / max(1, kernel + diverted))
