"""The frame around the verbs: exit codes, failures as one line, no colour where it is not wanted."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click
import pytest

from l7fp.cli import app
from l7fp.cli.output import Style, stdout_style
from l7fp.errors import ArtifactError, L7fpError, UnavailableError, UsageError


def _fails_with(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactError("bundle is damaged", hint="compile it again"), 1),
        (UsageError("bundle is damaged", hint="compile it again"), 2),
        (UnavailableError("bundle is damaged", hint="compile it again"), 3),
    ],
)
def test_failure_is_one_line_a_mend_and_the_documented_code(
    error: L7fpError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.app, "get_command", lambda ctx, name: _fails_with(error))
    assert app.status(["check"]) == code
    assert capsys.readouterr().err == "l7fp: bundle is damaged\n  hint: compile it again\n"


def test_a_bug_is_reported_without_a_traceback_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.app, "get_command", lambda ctx, name: _fails_with(KeyError("oops")))
    assert app.status(["check"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("L7FP_DEBUG", "1")
    assert app.status(["check"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_ends_with_the_shells_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.app, "get_command", lambda ctx, name: _fails_with(KeyboardInterrupt()))
    assert app.status(["check"]) == 130


def test_misspelt_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["complie"]) == 2
    assert "did you mean 'compile'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(app.VERBS))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: l7fp {verb}")


@pytest.mark.parametrize("verb", ["check", "compile", "explain", "run", "load"])
def test_missing_argument_is_a_usage_error(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status([verb]) == 2
    assert capsys.readouterr().err.startswith("l7fp: Missing")


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = "import sys; from l7fp.cli import app; app.status(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.monotonic() - began
    modules = set(done.stderr.split())
    assert not modules & {
        "yaml",
        "jinja2",
        "rich",
        "asyncio",
        "ctypes.util",
        "elftools",
        "l7fp.frontend",
        "l7fp.loader",
    }
    assert took < 1.0  # a tenth of that on an idle machine


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_names_the_program(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.status(["completion", shell]) == 0
    assert "_L7FP_COMPLETE" in capsys.readouterr().out


def test_completion_offers_verbs() -> None:
    env = {**os.environ, "_L7FP_COMPLETE": "bash_complete", "COMP_WORDS": "l7fp co", "COMP_CWORD": "1"}
    code = "from l7fp.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["plain,compile", "plain,completion"]


@pytest.mark.parametrize(("no_color", "expected"), [("", True), ("1", False)])
def test_no_color_is_honoured(no_color: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    assert stdout_style() == Style(expected)


def test_a_reader_that_hangs_up_is_no_failure() -> None:
    command = f"{sys.executable} -m l7fp --help | head -c 0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
