"""The road that several verbs share: files → policy → placement → bundle, with findings shown on the way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from l7fp.cli import render
from l7fp.cli.output import stderr_style
from l7fp.errors import PolicyError

if TYPE_CHECKING:
    from l7fp.frontend import Loaded
    from l7fp.ir.model import Policy


def load(files: Sequence[str], *, quiet: bool = False) -> Loaded:
    """Read `files`; findings go to standard error unless `quiet`. The policy may be None."""
    from l7fp import frontend

    loaded = frontend.load(list(files))
    if not quiet and len(loaded.diagnostics):
        print(render.text(loaded.diagnostics, loaded.sources, stderr_style()), file=sys.stderr)
    return loaded


def policy(files: Sequence[str]) -> tuple[Loaded, Policy]:
    """As `load`, but raise `PolicyError` when there is no policy to go on with."""
    loaded = load(files)
    return loaded, usable(loaded)


def usable(loaded: Loaded) -> Policy:
    """The policy; `PolicyError` when findings forbid it."""
    if loaded.policy is None:
        raise PolicyError(f"nothing was compiled: {render.summary(loaded.diagnostics)}")
    return loaded.policy
