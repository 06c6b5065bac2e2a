"""A benchmark's results as JSON, as Markdown and as plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import plot
from bench.runner import Result
from bench.scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`titles` name the contestants, `absent` those that could not run and why; `machine` says where it was."""

    machine: Mapping[str, str | int]
    command: str
    rounds: int
    seconds: int
    titles: Mapping[str, str]
    absent: Mapping[str, str]
    scenarios: Sequence[Scenario]
    results: Sequence[Result]

    def of(self, scenario: str) -> dict[str, Result]:
        """Results by contestant, in the order in which they ran."""
        return {r.driver: r for r in self.results if r.scenario == scenario}


def to_json(report: Report) -> str:
    """Everything, the single rounds included."""
    data = {
        "machine": dict(report.machine),
        "command": report.command,
        "rounds": report.rounds,
        "seconds": report.seconds,
        "drivers": dict(report.titles),
        "absent": dict(report.absent),
        "scenarios": [
            {"name": s.name, "title": s.title, "load": asdict(s.load), "results": [asdict(r) for r in report.results
             if r.scenario == s.name]}
            for s in report.scenarios
        ],
    }  # fmt: skip
    return json.dumps(data, indent=1) + "\n"


def duration(us: float) -> str:
    """`µs` as text with three digits or so."""
    return f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.2f} ms" if us < 10_000 else f"{us / 1000:.1f} ms"


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "–"


def table(results: Mapping[str, Result]) -> list[list[str]]:
    """Header and rows: one contestant a row."""
    rows = [["", "req/s", "p50", "p99", "CPU/req", "machine CPU/req", "bad", "in kernel"]]
    rows += [
        [
            r.driver,
            f"{r.rate:,.0f}",
            duration(r.p50_us),
            duration(r.p99_us),
            f"{r.cpu_us:.1f} µs",
            f"{r.machine_us:.1f} µs",
            _bad(r),
            "" if r.offload is None else f"{100 * r.offload:.1f} %",
        ]
        for r in results.values()
    ]
    return rows


def _bad(result: Result) -> str:
    kinds: Counter[str] = Counter()
    for sample in result.samples:
        kinds.update(sample.errors)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "0"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def comparisons(report: Report) -> list[list[str]]:
    """l7fp against each other contestant: requests/s, p50, p99 and CPU as ratios l7fp : other."""
    rows = [["l7fp against", "scenario", "req/s", "p50", "p99", "CPU/req"]]
    for scenario in report.scenarios:
        results = report.of(scenario.name)
        ours = results.get("l7fp")
        for name, other in results.items():
            if ours is None or name == "l7fp":
                continue
            ratios = [(ours.rate, other.rate), (ours.p50_us, other.p50_us), (ours.p99_us, other.p99_us)]
            ratios.append((ours.cpu_us, other.cpu_us))
            rows.append([name, scenario.name, *(_ratio(a, b) for a, b in ratios)])
    return rows


def diversion(report: Report) -> list[str]:
    """What it costs when a request takes the slow path: l7fp's diverted loads beside the same ones in the kernel."""
    out = []
    for connections in (1, 64):
        fast = report.of(f"get-{connections}").get("l7fp")
        slow = report.of(f"diverted-{connections}").get("l7fp")
        if fast and slow:
            out.append(
                f"{connections} connection{'s' if connections > 1 else ''}: p50 {duration(slow.p50_us)} instead of "
                f"{duration(fast.p50_us)}, CPU per request {slow.cpu_us:.1f} µs instead of {fast.cpu_us:.1f} µs"
            )
    return out


def losses(report: Report) -> list[str]:
    """Every case in which another contestant did better than l7fp in requests per second or at the median."""
    out = []
    for scenario in report.scenarios:
        results = report.of(scenario.name)
        for ours in (r for name, r in results.items() if name.startswith("l7fp")):
            for name, other in results.items():
                if name.startswith("l7fp"):
                    continue
                worse = []
                if ours.rate < other.rate:
                    worse.append(f"{ours.rate:,.0f} against {other.rate:,.0f} req/s")
                if ours.p50_us > other.p50_us:
                    worse.append(f"p50 {duration(ours.p50_us)} against {duration(other.p50_us)}")
                if worse:
                    out.append(f"{ours.driver}, {scenario.title}, against {name}: {'; '.join(worse)}")
    return out


def to_markdown(report: Report) -> str:
    """The report that a person reads; it refers to the plots beside it."""
    machine = ", ".join(f"{k} {v}" for k, v in report.machine.items())
    parts = [
        "# HTTP/1.1 benchmark",
        f"Made by `{report.command}`: medians of {report.rounds} interleaved round(s) of {report.seconds} s each.",
        f"Machine: {machine}.",
        "wrk runs on the same machine with one thread. CPU per request counts every process that takes part, "
        "wrk and the server included; machine CPU counts all that the machine did meanwhile, interrupts included. "
        "`bad` counts answers that were not the right one, and socket errors.",
        "\n".join(f"- `{name}`: {title}" for name, title in report.titles.items()),
    ]
    if report.absent:
        parts.append("Did not run:\n\n" + "\n".join(f"- `{name}`: {why}" for name, why in report.absent.items()))
    for scenario in report.scenarios:
        if results := report.of(scenario.name):
            parts.append(f"## {scenario.title}")
            parts.append(f"![requests per second]({scenario.name}-rate.svg)\n![p50]({scenario.name}-p50.svg)")
            parts.append(_markdown_table(table(results)))
    if len(rows := comparisons(report)) > 1:
        parts += ["## l7fp : other, as a ratio", _markdown_table(rows)]
    if costs := diversion(report):
        parts += ["## The cost of a diverted request", "\n".join(f"- {line}" for line in costs)]
    parts.append("## Where l7fp loses")
    lost = losses(report)
    parts.append("\n".join(f"- {line}" for line in lost) if lost else "Nowhere in these scenarios.")
    return "\n\n".join(parts) + "\n"


def write(report: Report, folder: Path) -> list[Path]:
    """`report.md`, `report.json` and two plots a scenario in `folder`; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"report.md": to_markdown(report), "report.json": to_json(report)}
    for scenario in report.scenarios:
        if results := report.of(scenario.name):
            rates = [(r.driver, r.rate, f"{r.rate:,.0f}") for r in results.values()]
            files[f"{scenario.name}-rate.svg"] = plot.bars(f"{scenario.title}: requests/s", rates)
            medians = [(r.driver, r.p50_us, duration(r.p50_us)) for r in results.values()]
            files[f"{scenario.name}-p50.svg"] = plot.bars(f"{scenario.title}: median latency", medians)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]
