"""`l7fp completion`: a shell's completion script."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    bash: l7fp completion bash > ~/.local/share/bash-completion/completions/l7fp
    """
    from click.shell_completion import get_completion_class

    from l7fp.cli.app import app

    made = get_completion_class(shell)
    assert made is not None
    if shell == "bash":
        # click's own `source` starts a bash to look at its version; the template needs 4.4
        complete = made(app, {}, "l7fp", "_L7FP_COMPLETE")
        click.echo(complete.source_template % complete.source_vars())
        return
    click.echo(made(app, {}, "l7fp", "_L7FP_COMPLETE").source())
