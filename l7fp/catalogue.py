"""The catalogue of findings, `codes.toml`: what each code means and what to do about it.

```
>>> find("L7FP201").title
'unknown field'
```
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources

from l7fp.diagnostics import Severity


@dataclass(frozen=True, slots=True)
class Entry:
    """One code. `severities`: as what it may be reported."""

    code: str
    title: str
    severities: tuple[Severity, ...]
    explanation: str
    mend: str


@functools.cache
def catalogue() -> dict[str, Entry]:
    """All entries by code, in order."""
    text = resources.files("l7fp").joinpath("codes.toml").read_text("utf-8")
    return {
        code: Entry(
            code=code,
            title=row["title"],
            severities=tuple(Severity(word) for word in row["severity"]),
            explanation=row["explanation"],
            mend=row["mend"],
        )
        for code, row in tomllib.loads(text).items()
    }


def find(code: str) -> Entry | None:
    """The entry of a code, None for an unknown one."""
    return catalogue().get(code)
