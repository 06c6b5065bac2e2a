"""`make demo`: a small application, its policies, and what l7fp makes of them.

Everything happens below one cgroup of its own and on loopback addresses; when this process ends, however it
ends, nothing of it stays.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile

from bench import http1, report
from l7fp.errors import L7fpError, UnavailableError
from l7fp.loader import features
from policies.demo.app.node import Node, l7fp
from policies.demo.app.story import SCENES, Story
from policies.demo.app.topology import POLICIES, Application

BENCH_DRIVERS = ("direct", "envoy1", "l7fp", "l7fp-slow")


def say(text: str) -> None:
    """A line at once, also into a pipe."""
    print(text, flush=True)


def compiler_half(why: str) -> None:
    """What needs no root: the coverage of the policies and an explanation."""
    folder = os.path.relpath(POLICIES)
    say(f"The kernel half is left out: {why}\n")
    with tempfile.TemporaryDirectory(prefix="l7fp-demo-") as made:
        for command in (
            ["compile", folder, "-o", f"{made}/policy.l7fp"],
            ["explain", folder, "-r", "GET http://reviews/reviews/0", "-H", "x-user: ada"],
            ["explain", folder, "-r", "GET http://productpage/products/1"],
        ):
            say(f"$ l7fp {shlex.join(command)}\n{l7fp(*command)}\n")


def whole(with_bench: bool) -> int:
    """The application behind l7fp. Returns the exit code."""
    node = Node()
    application = Application(node.root)
    try:
        node.prepare()
        application.start()
        running = sum(1 for pod in application.pods.values() if pod.port)
        say(f"{running} pods run on 127.0.10.x, in cgroups below {node.cgroup}")
        say(f"  node$ {' '.join(node.start())}")
        story = Story(node, application, say)
        for scene in SCENES:
            story.play(scene)
        story.failover()
        totals(node)
    finally:
        application.stop()
        node.close()
    if with_bench:
        benchmark()
    if story.wrong:
        say(f"\nNot as expected: {'; '.join(story.wrong)}")
        return 1
    return 0


def totals(node: Node) -> None:
    """What went where, over the whole demo."""
    say("\nWhat went where, by rule:")
    used = {name: count for name, count in node.state().rules.items() if count}
    width = max(map(len, used), default=0)
    for name, count in used.items():
        say(f"  {name:<{width}}  kernel {count.kernel:>4}  slow path {count.slow:>4}")


def benchmark() -> None:
    """A short look; `make bench` takes longer and says more."""
    say("\nSide by side: GET of 100 bytes over 64 connections, 2 s each (make bench measures it properly)")
    made = http1.run(quick=True, only_drivers=BENCH_DRIVERS, only_scenarios=["get-64"])
    rows = report.table(made.of("get-64"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for name, why in made.absent.items():
        say(f"  left out: {name}: {why}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m policies.demo.app", description=__doc__)
    parser.add_argument("--no-bench", action="store_true", help="leave the benchmark out")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        try:
            features.require()
        except UnavailableError as error:
            compiler_half(str(error))
            return 0
        return whole(not options.no_bench)
    except L7fpError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
