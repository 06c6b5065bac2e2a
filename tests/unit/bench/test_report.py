"""Medians, tables, plots, and that a lost comparison is named."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import report, runner, wrk
from bench.processes import CpuTimes
from bench.report import Report
from bench.runner import Result
from bench.scenarios import HTTP1
from bench.wrk import Load, Sample
from l7fp.errors import L7fpError


def _sample(requests: int, p50: float, bad: int = 0) -> Sample:
    return Sample(
        requests=requests,
        seconds=2.0,
        bytes=1,
        p50_us=p50,
        p99_us=p50 * 2,
        mean_us=p50,
        errors={"read": bad} if bad else {},
        cpu=CpuTimes(1.0, 1.5),
    )


def _result(scenario: str, driver: str, *samples: Sample) -> Result:
    return runner._summarise(scenario, driver, samples)


def _report(results: list[Result]) -> Report:
    return Report(
        machine={"cores": 2},
        command="l7fp bench http1",
        rounds=3,
        seconds=2,
        titles={r.driver: r.driver for r in results},
        absent={"envoy2": "Envoy is not installed"},
        scenarios=[s for s in HTTP1 if s.name in {r.scenario for r in results}],
        results=results,
    )


def test_medians_are_of_the_rounds_and_bad_answers_add_up() -> None:
    result = _result("get-64", "direct", _sample(100, 5, 1), _sample(300, 1), _sample(200, 3, 2))
    assert (result.rate, result.p50_us, result.p99_us, result.bad) == (100.0, 3, 6, 3)
    assert result.cpu_us == 1e6 / 200
    assert result.machine_us == 1.5e6 / 200


def test_bad_answers_are_told_by_kind() -> None:
    rows = report.table({"direct": _result("get-64", "direct", _sample(100, 5, 1), _sample(100, 5, 2))})
    assert rows[1][6] == "3 read"


def test_losing_case_is_listed_and_a_won_one_is_not() -> None:
    won = [_result("get-64", "l7fp", _sample(300, 1)), _result("get-64", "envoy1", _sample(100, 5))]
    lost = [_result("body-5m", "l7fp", _sample(100, 9)), _result("body-5m", "direct", _sample(200, 5))]
    assert report.losses(_report(won + lost)) == [
        "l7fp, response of 5 MB, 8 connections, against direct: 50 against 100 req/s; p50 9 µs against 5 µs"
    ]


def test_cost_of_a_diverted_request_is_told_where_both_were_measured() -> None:
    results = [_result("get-1", "l7fp", _sample(100, 5)), _result("diverted-1", "l7fp", _sample(50, 40))]
    assert report.diversion(_report(results)) == [
        "1 connection: p50 40 µs instead of 5 µs, CPU per request 20000.0 µs instead of 10000.0 µs"
    ]
    assert report.diversion(_report(results[:1])) == []


def test_report_is_markdown_json_and_wellformed_plots(tmp_path: Path) -> None:
    made = _report([_result("get-64", "l7fp", _sample(300, 1)), _result("get-64", "envoy1", _sample(100, 5))])
    written = report.write(made, tmp_path / "out")
    assert sorted(p.name for p in written) == ["get-64-p50.svg", "get-64-rate.svg", "report.json", "report.md"]
    text = (tmp_path / "out/report.md").read_text()
    assert "| envoy1 | get-64 | 3.00 | 0.20 | 0.20 | 0.33 |" in text
    assert "`envoy2`: Envoy is not installed" in text
    assert json.loads((tmp_path / "out/report.json").read_text())["scenarios"][0]["results"][0]["driver"] == "l7fp"
    for svg in (tmp_path / "out").glob("*.svg"):
        ElementTree.parse(svg)


@pytest.mark.parametrize(
    ("us", "text"), [(7.4, "7 µs"), (999, "999 µs"), (1500, "1.50 ms"), (21_660, "21.7 ms"), (9_999, "10.00 ms")]
)
def test_durations_have_a_fitting_unit(us: float, text: str) -> None:
    assert report.duration(us) == text


NUMBERS = (
    '{"requests":100,"duration_us":2000000,"bytes":5,"connect":1,"read":0,"write":0,"timeout":2,"status":90,'
    '"p50":10,"p90":20,"p99":30,"max":40,"mean":12.0}'
)


def test_where_a_refusal_is_expected_an_admission_is_bad() -> None:
    load = Load(paths=("/admin",), connections=1, seconds=2, expect_errors=True)
    assert wrk._parse(f"noise\n\n{NUMBERS}\n", load, CpuTimes(0, 0)).bad == 3 + 10


def test_elsewhere_an_error_status_is_bad() -> None:
    load = Load(paths=("/",), connections=1, seconds=2)
    assert wrk._parse(NUMBERS, load, CpuTimes(0, 0)).bad == 3 + 90


def test_failing_load_generator_says_what_it_said() -> None:
    load = Load(paths=("/",), connections=1, seconds=2)
    with pytest.raises(L7fpError, match="unable to connect"):
        wrk._parse("unable to connect to 127.0.0.1:1 Connection refused\n", load, CpuTimes(0, 0))
