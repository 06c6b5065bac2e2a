"""Console blocks of a Markdown file: commands and what they are said to print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"(?:<!-- run: (?P<how>[^>]*?) -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True, slots=True)
class Block:
    """`how`: words of the comment above it, such as `kernel` or `numbers vary`."""

    line: int
    how: frozenset[str]
    steps: tuple[tuple[str, str], ...]


def blocks(markdown: str) -> list[Block]:
    """Every ```console block; a command is a line that starts with `$ `, its output what follows."""
    out = []
    for found in _BLOCK.finditer(markdown):
        how = frozenset(word.strip() for word in (found["how"] or "").split(",") if word.strip())
        out.append(Block(markdown.count("\n", 0, found.start()) + 1, how, tuple(_steps(found["body"]))))
    return out


def _steps(body: str) -> list[tuple[str, str]]:
    steps: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        steps.append((command, output))
    return steps


def matches(expected: str, actual: str, *, numbers_vary: bool = False) -> bool:
    """Whether the output is what the file says. A line `…` stands for any lines, `…` in a line for any text in it."""
    if numbers_vary:
        expected, actual = _NUMBER.sub("0", expected), _NUMBER.sub("0", actual)
        expected, actual = re.sub(r" +", " ", expected), re.sub(r" +", " ", actual)
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part.rstrip()) for part in line.split("…")) + r"[ ]*\n"
    return re.fullmatch(pattern, actual.rstrip() + "\n") is not None


def run(command: str, cwd: Path, bin_folder: Path, *, timeout: float = 240) -> str:
    """What `command` prints (standard error too), run by bash in `cwd` with `l7fp` found in `bin_folder`."""
    program = bin_folder / "l7fp"
    if not program.exists():
        bin_folder.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m l7fp "$@"\n')
        program.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    env["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return done.stdout
