"""The command line: thin verbs, one file each, imported when they are called."""

from __future__ import annotations


def main() -> None:
    """Entry point of `l7fp`; ends the process with the documented exit code."""
    from l7fp.cli.app import run

    run()
