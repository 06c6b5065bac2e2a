"""The road that several verbs share: files → policy → placement → bundle, with findings shown on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l7fp.cli import render
from l7fp.cli.output import stderr_style
from l7fp.errors import PolicyError

if TYPE_CHECKING:
    from l7fp.codegen.artifact import Bundle
    from l7fp.frontend import Loaded
    from l7fp.ir.model import Policy
    from l7fp.ir.passes.classify import Classification


def load(files: Sequence[str], *, quiet: bool = False) -> Loaded:
    """Read `files`; findings go to standard error unless `quiet`. The policy may be None."""
    from l7fp import frontend
    from l7fp.ir import passes

    loaded = frontend.load(list(files))
    if loaded.policy is not None:
        passes.findings(loaded.policy, loaded.diagnostics)
    if not quiet and len(loaded.diagnostics):
        print(render.text(loaded.diagnostics, loaded.sources, stderr_style()), file=sys.stderr)
    return loaded


def usable(loaded: Loaded) -> Policy:
    """The policy; `PolicyError` when findings forbid it."""
    if loaded.policy is None:
        raise PolicyError(f"nothing was compiled: {render.summary(loaded.diagnostics)}")
    return loaded.policy


@dataclass(frozen=True, slots=True)
class Compiled:
    """What was read, and what came of it."""

    loaded: Loaded
    bundle: Bundle


def classified(files: Sequence[str]) -> tuple[Policy, Classification]:
    """The policy after all passes, and who enforces each rule in the end. Findings go to standard error."""
    from l7fp.codegen.plan import build
    from l7fp.ir.passes.classify import Classification, Reason, Slow
    from l7fp.source import NOWHERE

    _, made, placement = _placed(files)
    # what turns out too large for the kernel's tables is found out only when they are laid out
    demoted = {name: Slow((Reason("plan", NOWHERE, why, ""),)) for name, why in build(made, placement).demoted}
    rules = {n: p if isinstance(p, Slow) else demoted.get(n, p) for n, p in placement.rules.items()}
    return made, Classification(rules, placement.authz)


def _placed(files: Sequence[str]) -> tuple[Loaded, Policy, Classification]:
    from l7fp.ir import passes
    from l7fp.ir.passes.classify import classify

    loaded = load(files)
    made = passes.run(usable(loaded))
    return loaded, made, classify(made)


def compiled(files: Sequence[str], say: Callable[[str], None] = lambda _: None) -> Compiled:
    """All the way to a bundle; `say` is told what is under way."""
    from l7fp import codegen

    say("reading policies")
    loaded, made, placement = _placed(files)
    say("compiling the kernel program")
    return Compiled(loaded, codegen.build_bundle(made, placement))


def stage(files: Sequence[str], name: str) -> bytes:
    """One stage as bytes: `ast`, `ir`, `plan`, `c` or `obj`."""
    if name == "ast":
        loaded = load(files)
        usable(loaded)
        return _pretty(loaded.ast)
    made, placement = classified(files)
    if name == "ir":
        from l7fp.ir.printer import print_policy

        return print_policy(made).encode(errors="surrogateescape")
    from l7fp.codegen.plan import build
    from l7fp.codegen.render import render as render_c

    plan = build(made, placement)
    if name == "plan":
        return _pretty(plan)
    sources = render_c(plan)
    if name == "c":
        return "".join(f"/* ---- {file} ---- */\n{text}\n" for file, text in sorted(sources.items())).encode()
    from l7fp.codegen.cc import compile_bpf

    return compile_bpf(sources, "policy.bpf.c")


def _pretty(value: object) -> bytes:
    from pprint import pformat

    return (pformat(value, width=120, sort_dicts=False) + "\n").encode(errors="surrogateescape")
