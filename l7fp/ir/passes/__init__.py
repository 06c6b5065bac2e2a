"""The passes over the IR, in the order in which they run. Each keeps what the policy means.

normalise   one spelling for everything that can be spelt in several ways
simplify    conditions that always hold and matches that never do go away

`findings` (what the passes make evident and a user should know) and `classify` (who enforces what) only look.
"""

from __future__ import annotations

from collections.abc import Callable

from l7fp.diagnostics import Diagnostics
from l7fp.ir.model import Policy
from l7fp.ir.passes import shadow
from l7fp.ir.passes.normalise import normalise
from l7fp.ir.passes.simplify import simplify

Pass = Callable[[Policy], Policy]

PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("normalise", normalise),
    ("simplify", simplify),
)


def run(
    policy: Policy,
    *,
    after: Callable[[str, Policy], None] | None = None,
    diagnostics: Diagnostics | None = None,
) -> Policy:
    """The policy after all passes. `after` is called with each pass's name and result; `diagnostics`
    takes the findings."""
    if diagnostics is not None:
        findings(policy, diagnostics)
    for name, step in PIPELINE:
        policy = step(policy)
        if after is not None:
            after(name, policy)
    return policy


def findings(policy: Policy, diagnostics: Diagnostics) -> None:
    """Append warnings about rules that can't be reached and matches that can't hold."""
    shadow.report(normalise(policy), diagnostics)
