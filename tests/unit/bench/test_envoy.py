"""Envoy accepts the configuration that it is measured with, and it means what the policy means."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from bench.drivers.envoy import EnvoySidecars
from bench.envoy import find_envoy
from bench.rules import DENIED_PATH, FAST_PATH, REWRITTEN_PATH, SLOW_PATH
from l7fp.errors import UnavailableError


@pytest.fixture(scope="module", params=[1, 2], ids=["one sidecar", "two sidecars"])
def sidecars(request: pytest.FixtureRequest) -> Iterator[EnvoySidecars]:
    try:
        find_envoy()
    except UnavailableError as error:
        pytest.skip(str(error))
    driver = EnvoySidecars(request.param, 1)
    try:
        driver.start()
        yield driver
    finally:
        driver.stop()


@pytest.mark.parametrize(
    ("path", "status"), [(FAST_PATH, 200), (REWRITTEN_PATH, 200), (SLOW_PATH, 200), (DENIED_PATH, 403)]
)
def test_every_path_of_the_benchmark_gets_its_answer(sidecars: EnvoySidecars, path: str, status: int) -> None:
    try:
        with urllib.request.urlopen(sidecars.url + path, timeout=5) as answer:
            got, backend = answer.status, answer.headers["x-backend"]
    except urllib.error.HTTPError as error:
        got, backend = error.code, None
        error.close()
    assert got == status
    assert backend == ("web" if status == 200 else None)


def test_stop_leaves_no_process() -> None:
    try:
        find_envoy()
    except UnavailableError as error:
        pytest.skip(str(error))
    driver = EnvoySidecars(1, 1)
    driver.start()
    pids = driver.pids()
    driver.stop()
    assert subprocess.run(["ps", "-o", "pid=", "-p", ",".join(map(str, pids))], capture_output=True).stdout == b""
