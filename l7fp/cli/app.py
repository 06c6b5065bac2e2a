"""The program `l7fp`: finds the verb, runs it, turns failures into one line, a mend and an exit code.

Exit codes: 0 fine; 1 findings, a failed comparison or a failed operation; 2 usage; 3 this machine can't.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from l7fp import __version__
from l7fp.errors import L7fpError

VERBS: dict[str, str] = {
    "compile": "Policies into one bundle: kernel program, tables, slow path.",
    "check": "Findings about policies, each with its place and a hint.",
    "explain": "What happens to a request, by which rules, and where.",
    "load": "Put a bundle on this machine, or replace the one there.",
    "unload": "Take everything of l7fp off this machine.",
    "run": "Compile, load and serve in the foreground.",
    "status": "What is loaded, what it has done, and why not in the kernel.",
    "bench": "Measure against no proxy and Envoy, side by side.",
    "completion": "Print the completion script of a shell.",
}


class _Verbs(click.Group):
    """Imports a verb's module only when that verb is used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"l7fp.cli.{cmd_name}_verb")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "l7fp --help lists the verbs"
            raise click.UsageError(f"no verb is called {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="l7fp %(version)s")
def app() -> None:
    """Service-mesh L7 policies, enforced in the kernel where it can and by a proxy where it can't."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the verb that `arguments` (default: the process's) ask for and exit."""
    code = status(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hang_up()
    sys.exit(code)


def _invoke(arguments: list[str]) -> object:
    """As `app.main` without its own ideas about exit codes (it ends the process with 1 when a reader hangs up)."""
    if "_L7FP_COMPLETE" in os.environ:
        return app.main(arguments, prog_name="l7fp", standalone_mode=False)
    with app.make_context("l7fp", arguments) as context:
        return app.invoke(context)


def _hang_up() -> None:
    """Whoever read our output has seen enough: keep the interpreter from complaining about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def status(arguments: Sequence[str] | None = None) -> int:
    """As `run`, but return the exit code."""
    try:
        result = _invoke(list(sys.argv[1:] if arguments is None else arguments))
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.Abort:
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "l7fp"
        return _fail(error.format_message(), f"{verb} --help", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), "", 2)
    except L7fpError as error:
        return _fail(error.message, error.hint, error.exit_code, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _hang_up()
        return 0
    except Exception as error:
        return _fail(f"internal error: {type(error).__name__}: {error}", "L7FP_DEBUG=1 shows where", 1, error)


def _fail(message: str, hint: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("L7FP_DEBUG"):
        traceback.print_exception(error)
    from l7fp.cli.output import stderr_style

    style = stderr_style()
    if message:
        print(f"{style.bad('l7fp:')} {message}", file=sys.stderr)
    if hint:
        print(f"  {style.dim('hint:')} {hint}", file=sys.stderr)
    return code
