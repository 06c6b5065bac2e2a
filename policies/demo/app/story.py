"""What the demo shows: requests, what became of them, and where."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from policies.demo.app.curl import Answer, Curl, shown
from policies.demo.app.node import Count, Node
from policies.demo.app.topology import Application


@dataclass(frozen=True, slots=True)
class Scene:
    """One curl: what it shows, who asks, its arguments, and the statuses that are right."""

    title: str
    client: str
    arguments: tuple[str, ...]
    expected: frozenset[int]


def _scene(title: str, *arguments: str, client: str = "visitor", expected: Sequence[int] = (200,)) -> Scene:
    return Scene(title, client, arguments, frozenset(expected))


SCENES = (
    _scene("A page made of four services", "http://productpage/productpage"),
    _scene("Canary: four in five to v1, one in five to v2", "http://reviews/reviews/[1-50]"),
    _scene("By header: this user is shown v3", "-H", "x-user: ada", "http://reviews/reviews/0"),
    _scene("Rewrite: the path of an earlier version", "http://details/api/v1/details/1"),
    _scene("Redirect, made in the kernel", "http://productpage/", expected=[302]),
    _scene("Answer, made in the kernel", "http://productpage/robots.txt"),
    _scene("Denied: only reviews may read ratings", "http://ratings/ratings/0", expected=[403]),
    _scene("Denied by who asks", "http://productpage/productpage", client="crawler", expected=[403]),
    _scene("A regular expression: the slow path serves this route", "http://productpage/products/1"),
    _scene("A path to be normalised first: the slow path", "--path-as-is", "http://details/x/../details/0"),
)


class Story:
    """Runs scenes and prints them; `wrong` are those whose answers were not the expected ones."""

    def __init__(self, node: Node, application: Application, say: Callable[[str], None]) -> None:
        self._node, self._application, self._say = node, application, say
        self.wrong: list[str] = []

    def _curl(self, client: str) -> Curl:
        return Curl(self._node.root / self._application.pods[client].cgroup, self._application.services)

    def play(self, scene: Scene) -> list[Answer]:
        """One scene: the command, the answers, and the rules that it went by."""
        before = self._node.state()
        answers = self._curl(scene.client)(*scene.arguments)
        change = self._node.state().since(before)
        self._say(f"\n{scene.title}\n  {scene.client}$ {shown(scene.arguments)}")
        self._say(f"    {_summary(answers)}")
        for name, count in change.rules.items():
            self._say(f"    {_where(count):<16} {name}")
        for reason, n in change.reasons.items():
            self._say(f"    {_where(Count(slow=n)):<16} because of: {reason}")
        if not answers or any(a.status not in scene.expected for a in answers):
            self.wrong.append(scene.title)
            self._say(f"    wrong: expected {', '.join(map(str, sorted(scene.expected)))}")
        return answers

    def failover(self) -> None:
        """Kill one of two servers while requests come in, start it again."""
        url = "http://details/details/[0-1]?n=[1-10]"
        self.play(_scene("Two servers take turns", url))
        self._application.kill_pod("details-a")
        self.play(_scene("details-a was killed (kill -9): the other one serves", url))
        self._application.start_pod("details-a")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if any(a.pod == "details-a" for a in self._curl("visitor")(url)):
                break
        self.play(_scene("details-a is back", url))


def _summary(answers: Sequence[Answer]) -> str:
    by = Counter((a.status, a.pod or "l7fp") for a in answers)
    parts = [f"{status} from {pod}" + (f" × {n}" if n > 1 else "") for (status, pod), n in sorted(by.items())]
    middle = sorted(a.micros for a in answers)[len(answers) // 2] if answers else 0.0
    return f"{', '.join(parts)}; {middle:,.0f} µs"


def _where(count: Count) -> str:
    parts = [("kernel", count.kernel), ("slow path", count.slow)]
    return ", ".join(f"{name} × {n}" for name, n in parts if n)
