"""Exceptions that reach the command line: each is one clear message, a mend, and an exit code."""

from __future__ import annotations


class L7fpError(Exception):
    """A failure to show to the user as one line. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class PolicyError(L7fpError):
    """The policy has findings that forbid going on; the findings were already reported."""


class UsageError(L7fpError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class UnavailableError(L7fpError):
    """This machine can't: no root, no BPF, no compiler, a port in use."""

    exit_code = 3


class CompileError(UnavailableError):
    """The C compiler is absent or refused the generated program."""


class ArtifactError(L7fpError):
    """A bundle is unreadable, damaged, or from another version."""


class LoadError(UnavailableError):
    """The kernel refused a program, a map or an attachment."""
