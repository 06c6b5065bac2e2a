"""`python -m tests.conformance [--via EXECUTOR]... [FILE]...`: a table of cases and executors.

FILE is a corpus file or its stem. Exit status 1 if any executor is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from l7fp.errors import L7fpError
from tests.conformance.corpus import cases
from tests.conformance.judge import EXECUTORS, Judgement, Verdict, allowed, judge


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--via", action="append", choices=EXECUTORS, help="executor; may be repeated; default all")
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args()
    chosen = [case for file in options.files or ["*"] for case in cases(f"{Path(file).stem}.yaml")]
    columns: dict[str, list[Judgement]] = {}
    for name in options.via or EXECUTORS:
        try:
            with EXECUTORS[name](chosen) as executor:
                columns[name] = [judge(case, executor, allowed(name)) for case in chosen]
        except (L7fpError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
    if not columns:
        return 1
    width = max((len(case.id) for case in chosen), default=0)
    print(" " * width, *(f"{name:9}" for name in columns))
    for n, case in enumerate(chosen):
        print(f"{case.id:{width}}", *(f"{column[n].verdict.value:9}" for column in columns.values()))
    print()
    for name, column in columns.items():
        counts = Counter(j.verdict for j in column)
        print(f"{name:9}", ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v]))
    for name, column in columns.items():
        for case, judgement in zip(chosen, column, strict=True):
            if judgement.verdict in (Verdict.WRONG, Verdict.DIFFERS):
                print(f"\n{name}: {case.id}: {judgement.verdict.value}: {judgement.text}")
    return int(any(j.verdict is Verdict.WRONG for column in columns.values() for j in column))


if __name__ == "__main__":
    sys.exit(main())
