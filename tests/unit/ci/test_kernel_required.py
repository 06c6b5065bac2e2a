"""A kernel test that skips where BPF works fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins import kernel_required

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest
@pytest.mark.kernel
def test_kernel(): pytest.skip("no cgroup")
def test_plain(): pytest.skip("something else")
"""


def _run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, works: bool) -> pytest.RunResult:
    monkeypatch.setattr(kernel_required, "_required", works)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    pytester.makeini("[pytest]\nmarkers = kernel: x\n")
    pytester.makepyfile(SKIPPING)
    return pytester.runpytest_inprocess("-p", "tests.plugins.kernel_required")


def test_a_skipped_kernel_test_fails_where_bpf_works(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _run(pytester, monkeypatch, works=True)
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*yet a kernel test did not run: Skipped: no cgroup*"])


def test_a_skipped_kernel_test_skips_elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(pytester, monkeypatch, works=False).assert_outcomes(skipped=2)
