"""Policy -> plan -> C -> objects -> bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l7fp.codegen.artifact import Bundle
    from l7fp.ir.model import Policy
    from l7fp.ir.passes.classify import Classification

__all__ = ["build_bundle"]


def build_bundle(policy: Policy, classification: Classification, *, compiler: str = "auto") -> Bundle:
    """Compile a policy that has been through the passes. Raises CompileError."""
    from l7fp.codegen.bundling import build  # what only reads bundles needs no compiler and no templates

    return build(policy, classification, compiler)
