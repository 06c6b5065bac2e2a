"""The demo's policies hold in one network namespace and across several, over IPv4 and over IPv6, in the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.processes import cgroup_root, spawn
from bench.reaper import Reaper
from l7fp.loader import removal
from l7fp.loader import sys as kernel
from l7fp.loader.pins import Pins
from policies.demo.app.node import Count, State
from policies.demo.app.story import SCENES, Scene
from policies.demo.app.topology import POLICIES
from tests.e2e.bookshop import LIBRARY_PORT, Bookshop, Layout, l7fp, wait_until
from tests.kernel.test_dataplane_bodies import BOUND, Highest

pytestmark = pytest.mark.kernel

LAYOUTS = [Layout(version, apart) for version in (4, 6) for apart in (False, True)]
GIGABYTE = 1_000_000_000

HOME, ROBOTS, NUMBER, PAGE = (f"bookshop/productpage/http[{n}]" for n in range(4))
OLD_API, DETAILS = "bookshop/details/http[0]", "bookshop/details/http[1]"
TESTERS, CANARY = "bookshop/reviews/http[0]", "bookshop/reviews/http[1]"
LIBRARY = "library.bookshop.svc.cluster.local:80/default"
RATINGS = "ratings.bookshop.svc.cluster.local:80/default"
KERNEL, SLOW = Count(kernel=1), Count(slow=1)


@dataclass(frozen=True)
class Where:
    """What became of a scene's requests and of those that they led to: by rule (others may be used, in the kernel
    only), and by the reason for the slow path."""

    rules: Mapping[str, Count]
    reasons: Mapping[str, int]


def _where(rules: Mapping[str, Count], **reasons: int) -> Where:
    return Where(rules, reasons)


WHERE = dict(
    zip(
        (scene.title for scene in SCENES),
        (
            _where({PAGE: KERNEL, DETAILS: KERNEL, CANARY: KERNEL}),
            _where({CANARY: Count(kernel=50)}),
            _where({TESTERS: KERNEL, RATINGS: KERNEL}),
            _where({OLD_API: KERNEL}),
            _where({HOME: KERNEL}),
            _where({ROBOTS: KERNEL}),
            _where({RATINGS: KERNEL}),
            _where({PAGE: KERNEL}),
            _where({NUMBER: SLOW, DETAILS: KERNEL, CANARY: KERNEL}, rule_slow=1),
            _where({}, path_unsafe=1),
        ),
        strict=True,
    )
)


def _made(folder: Path, layout: Layout) -> Iterator[Bookshop]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Bookshop(folder, layout)
    try:
        made.start()
        yield made
    finally:
        made.close()


QUICK = frozenset({"pipelined", "slow_mode", "unread_answer"})
"""A client may be quicker than the kernel's word that its last answer is out: that request goes slow."""


def as_told(spent: State, expected: Mapping[str, Count], requests: int) -> None:
    """The rules' counts, less the few requests of clients that were too quick."""
    quick = sum(n for reason, n in spent.reasons.items() if reason in QUICK)
    assert quick <= requests // 5
    for name, count in expected.items():
        found = spent.rules.get(name, Count())
        assert count.kernel - quick <= found.kernel <= count.kernel, (name, spent)
        assert found.slow == count.slow, (name, spent)


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookshop]:
    """The running bookshop, shared by the tests, which leave it as they found it."""
    yield from _made(tmp_path_factory.mktemp("shop"), request.param)


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> None:
    """What the tests before have spent is none of this one's."""
    if "shop" in request.fixturenames:
        shop: Bookshop = request.getfixturevalue("shop")
        shop.forget()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.title)
def test_every_scene_goes_as_told_and_where_it_should(shop: Bookshop, scene: Scene) -> None:
    answers = shop.answers(scene.client, scene.arguments)
    assert answers
    assert {a.status for a in answers} <= scene.expected
    spent, expected = shop.spent(), WHERE[scene.title]
    as_told(spent, expected.rules, len(answers))
    assert sum(count.slow for count in spent.rules.values()) == sum(c.slow for c in expected.rules.values())
    assert {reason: n for reason, n in spent.reasons.items() if reason not in QUICK} == expected.reasons


def test_the_canary_gets_its_share(shop: Bookshop) -> None:
    pods = Counter(a.pod for a in shop.answers("visitor", ["http://reviews/reviews/0?n=[1-100]"]))
    assert set(pods) == {"reviews-v1", "reviews-v2"}
    assert 5 <= pods["reviews-v2"] <= 40  # 20 expected; outside of this once in 100,000 runs


def test_rewrites_and_header_edits_are_those_of_the_rule(shop: Bookshop) -> None:
    old = shop.ask("visitor", "http://details/api/v1/details/1")
    assert (old.status, json.loads(old.body)["path"], old.headers["x-internal"]) == (200, "/details/1", "shelf 7")
    plain = shop.ask("visitor", "http://details/details/1")
    assert (plain.status, json.loads(plain.body)["path"]) == (200, "/details/1")
    assert "x-internal" not in plain.headers
    page = json.loads(shop.ask("visitor", "-H", "x-user: ada", "http://productpage/productpage").body)
    assert (page["front"], page["reviews"]["pod"]) == ("bookshop", "reviews-v3")
    assert page["reviews"]["stars"]["pod"] == "ratings"
    spent = shop.spent()
    assert spent.rules == {OLD_API: KERNEL, DETAILS: Count(2), PAGE: KERNEL, TESTERS: KERNEL, RATINGS: KERNEL}
    assert not spent.reasons


def test_redirect_and_direct_response_are_those_of_the_policy(shop: Bookshop) -> None:
    home = shop.ask("visitor", "http://productpage/")
    assert (home.status, home.headers["location"]) == (302, "http://productpage/productpage")
    robots = shop.ask("visitor", "http://productpage/robots.txt")
    assert (robots.status, robots.body) == (200, "User-agent: *\nDisallow: /\n")
    assert shop.spent().rules == {HOME: KERNEL, ROBOTS: KERNEL}


@pytest.mark.parametrize(
    ("pod", "arguments", "status", "rule", "where"),
    [
        ("reviews-v1", ["http://ratings/ratings/0"], 200, RATINGS, KERNEL),
        ("reviews-v1", ["-d", "stars=1", "http://ratings/ratings/0"], 403, RATINGS, KERNEL),
        ("details-a", ["http://ratings/ratings/0"], 403, RATINGS, KERNEL),
        ("crawler", ["http://productpage/products/1"], 403, NUMBER, SLOW),
    ],
)
def test_who_asks_and_how_decides(
    shop: Bookshop, pod: str, arguments: list[str], status: int, rule: str, where: Count
) -> None:
    assert shop.ask(pod, *arguments).status == status
    assert shop.spent().rules == {rule: where}


def test_kernel_and_slow_path_take_turns_on_one_connection(shop: Bookshop) -> None:
    paths = ("productpage", "products/1", "robots.txt", "products/0", "productpage", "")
    urls = [word for path in paths for word in ("-o", "/dev/null", f"http://productpage/{path}")]
    with shop.spaces.inside("clients"):
        said = shop.curl("visitor").output("-w", "%{http_code} %{num_connects}\n", *urls)
    assert said.split("\n") == ["200 1", "200 0", "200 0", "200 0", "200 0", "302 0", ""]
    as_told(shop.spent(), {PAGE: Count(kernel=2), NUMBER: Count(slow=2), ROBOTS: KERNEL, HOME: KERNEL}, len(paths))


def test_a_killed_server_is_not_noticed_by_clients(shop: Bookshop) -> None:
    url = "http://details/details/0?n=[1-20]"
    pods = Counter(a.pod for a in shop.answers("visitor", [url]))
    assert pods.total() == 20
    assert min(pods["details-a"], pods["details-b"]) >= 8  # kernel and slow path each take turns, on their own
    shop.application.kill_pod("details-a")
    try:
        assert Counter((a.status, a.pod) for a in shop.answers("visitor", [url])) == {(200, "details-b"): 20}
    finally:
        with shop.spaces.inside("servers"):
            shop.application.start_pod("details-a")
        wait_until(lambda: shop.usable("details-a"))
    assert {a.pod for a in shop.answers("visitor", [url])} == {"details-a", "details-b"}


def test_a_dual_stack_server_is_served_by_the_kernel(shop: Bookshop, tmp_path: Path) -> None:
    """It listens on `::`; the IPv4 client of an IPv4 pod arrives there with a mapped address."""
    (tmp_path / "book").write_text("from both stacks")
    server = [sys.executable, "-m", "http.server", "--bind", "::", "--protocol", "HTTP/1.1"]
    with shop.library(*server, "--directory", str(tmp_path), str(LIBRARY_PORT)):
        for _ in range(3):
            reply = shop.ask("visitor", "http://library/book")
            assert (reply.status, reply.body) == (200, "from both stacks")
        assert shop.spent().rules == {LIBRARY: Count(kernel=3)}


# --- who does not read ------------------------------------------------------------------------------------------------


def _behaving(shop: Bookshop) -> list[str]:
    server = Path(__file__).parents[1] / "kernel" / "behaving_server.py"
    return [sys.executable, "-S", str(server), "library", shop.application.pods["library"].address, str(LIBRARY_PORT)]


def _resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of memory that a process has used at most."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no account of memory")


def _visitor(shop: Bookshop, *arguments: str) -> subprocess.Popen[bytes]:
    """curl in the visitor's pod, under way."""
    with shop.spaces.inside("clients"):
        return shop.curl("visitor").start("--max-time", "60", *arguments)


@pytest.mark.parametrize("shop", [Layout(6, True)], ids=str, indirect=True)
def test_a_client_that_does_not_read_a_gigabyte_costs_little_memory(shop: Bookshop) -> None:
    assert shop.run is not None
    with shop.library(*_behaving(shop)):
        before = _resident(shop.run)
        with Highest() as highest:
            report = ("-o", "/dev/null", "-w", "%{http_code} %{size_download}")
            client = _visitor(shop, *report, f"http://library/big/{GIGABYTE}")
            time.sleep(0.1)
            client.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            client.send_signal(signal.SIGCONT)
            said, _ = client.communicate(timeout=60)
        assert said.decode() == f"200 {GIGABYTE}"
        assert _resident(shop.run) - before < BOUND
        assert shop.spent().rules == {LIBRARY: KERNEL}
    assert 100_000 < highest.bytes < BOUND


@pytest.mark.parametrize("shop", [Layout(6, True)], ids=str, indirect=True)
def test_a_server_that_does_not_read_a_gigabyte_costs_little_memory(shop: Bookshop, tmp_path: Path) -> None:
    assert shop.run is not None
    upload = tmp_path / "upload"
    with open(upload, "wb") as file:
        file.truncate(GIGABYTE)
    with shop.library(*_behaving(shop)) as server:
        before = _resident(shop.run)
        with Highest() as highest:
            server.send_signal(signal.SIGSTOP)
            client = _visitor(shop, "-H", "Expect:", "-T", str(upload), "http://library/upload")
            time.sleep(1.5)
            server.send_signal(signal.SIGCONT)
            said, _ = client.communicate(timeout=60)
        assert said.decode() == f"library /upload body={GIGABYTE} "
        assert _resident(shop.run) - before < BOUND
        assert shop.spent().reasons["body_too_large"] == 1
    assert 100_000 < highest.bytes < BOUND


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bookshop]:
    """A bookshop for one test, that makes its temporary files in `tmp_path / "tmp"`."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "shop").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    yield from _made(tmp_path / "shop", LAYOUTS[1])


def _processes_of(instance: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if instance in words and "bench.reaper" not in words:
            found.append(" ".join(words))
    return found


def test_unload_after_kill_9_leaves_the_machine_clean(doomed: Bookshop, tmp_path: Path) -> None:
    direct = f"http://{doomed.application.pods['details-a'].address}:9080/details/0"
    assert doomed.ask("visitor", "http://details/details/0").status == 200
    objects = removal.objects_of(Pins("/sys/fs/bpf", doomed.instance))
    assert objects
    assert doomed.run is not None
    doomed.run.kill()
    doomed.run.wait()
    assert [a.status for a in doomed.answers("visitor", ["http://details/details/0"])] == [0]
    assert [a.status for a in doomed.answers("visitor", [direct])] == [0]

    l7fp("unload", "--instance", doomed.instance)
    assert not [number for kind, number in objects if kernel.exists(kind, number)]
    assert not Path("/sys/fs/bpf", doomed.instance).exists()
    assert not list(Path("/run/l7fp").glob(f"{doomed.instance}*"))
    assert {str(p.relative_to(doomed.root)) for p in doomed.cgroup.iterdir() if p.is_dir()} == {
        pod.cgroup for pod in doomed.application.pods.values()
    }
    assert not _processes_of(doomed.instance)
    assert not list((tmp_path / "tmp").iterdir())
    for role in ("clients", "agent"):
        with doomed.spaces.inside(role):
            listening = subprocess.run(["ss", "-ltnHe"], capture_output=True, text=True).stdout
        assert f"/{doomed.instance}/" not in listening  # other instances listen wherever there is a name
    assert [a.status for a in doomed.answers("visitor", [direct])] == [200]
    assert [a.status for a in doomed.answers("visitor", ["http://details/details/0"])] == [0]

    doomed.serve()
    assert doomed.ask("visitor", "http://details/details/0").status == 200


@pytest.mark.parametrize("milliseconds", [300, 600, 900, 1200, 1500])
def test_unload_after_kill_9_at_any_moment_of_the_start_leaves_the_machine_clean(
    tmp_path: Path, milliseconds: int
) -> None:
    """Compiling, loading, attaching: wherever it was."""
    root = cgroup_root()
    if os.geteuid() != 0 or root is None:
        pytest.skip("needs root and cgroup v2")
    instance = f"l7fp-killed-{os.getpid()}-{milliseconds}"
    reaper = Reaper(root / instance, instance)
    try:
        (root / instance).mkdir()
        command = [sys.executable, "-m", "l7fp", "run", "--instance", instance, "--cgroup", str(root / instance)]
        process = spawn([*command, str(POLICIES)])
        time.sleep(milliseconds / 1000)
        process.kill()
        process.wait()
        pins = Pins("/sys/fs/bpf", instance)
        objects = removal.objects_of(pins) if pins.exists() else set()
        l7fp("unload", "--instance", instance)
        assert not [number for kind, number in objects if kernel.exists(kind, number)]
        assert not pins.exists()
        assert not list(Path("/run/l7fp").glob(f"{instance}*"))
        assert not [path for path in (root / instance).iterdir() if path.is_dir()]
    finally:
        reaper.close()
