"""Bundles as what the agent deploys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l7fp.codegen.artifact import Bundle
    from slowpath.agent.deployment import Deployment


def is_bundle(path: str) -> bool:
    """Whether a file is meant to be a bundle rather than policy text."""
    return Path(path).suffix == ".l7fp"
