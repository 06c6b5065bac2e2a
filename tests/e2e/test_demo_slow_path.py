"""The demo's policies, enforced by the slow path alone on real sockets: no root, no kernel part."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.processes import free_port, spawn, stop
from policies.demo.app import topology
from policies.demo.app.topology import POLICIES, REPOSITORY, Application

VISITOR, CRAWLER, REVIEWS = "127.0.10.101", "127.0.10.102", "127.0.10.11"


@dataclass(frozen=True)
class Node:
    """The proxy's port and the running pods."""

    port: int
    application: Application

    def ask(
        self, host: str, path: str, *, source: str = VISITOR, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own, from `source`: the address tells who asks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(source, 0))
        try:
            connection.request(method, path, headers={"host": host, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    port = free_port()
    log = tmp_path_factory.mktemp("run") / "log"
    patch = pytest.MonkeyPatch()
    # without a kernel part nobody turns cluster IPs into anything: the services find each other through the proxy
    reached = {f"{s.name.upper()}_SERVICE_{key}": value for s in topology.services() for key, value in
               (("HOST", "127.0.0.1"), ("PORT", str(port)))}  # fmt: skip
    patch.setattr(topology, "environment", lambda folder: reached)
    application = Application(None)
    command = [sys.executable, "-m", "l7fp", "run", "--no-kernel", "--listen", f"127.0.0.1:{port}=80", str(POLICIES)]
    with open(log, "wb") as file:
        process = spawn(command, stdout=file, stderr=subprocess.STDOUT, env={"PYTHONPATH": str(REPOSITORY)})
    try:
        application.start()
        _wait_ready(log, process)
        yield Node(port, application)
        stop([process])
        assert process.returncode == 0, log.read_text()
    finally:
        stop([process])
        application.stop()
        patch.undo()


def _wait_ready(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while "ready" not in log.read_text() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


def test_canary_splits_by_weight(node: Node) -> None:
    pods = Counter(node.ask("reviews", "/reviews/0")[1]["x-pod"] for _ in range(100))
    assert set(pods) == {"reviews-v1", "reviews-v2"}
    assert 5 <= pods["reviews-v2"] <= 40  # 20 expected; outside of this once in 100,000 runs


def test_one_user_is_shown_the_next_version(node: Node) -> None:
    answers = [node.ask("reviews", "/reviews/0", headers={"x-user": "ada"}) for _ in range(10)]
    assert {headers["x-pod"] for _, headers, _ in answers} == {"reviews-v3"}


def test_old_path_is_rewritten_and_header_edits_belong_to_their_rule(node: Node) -> None:
    status, headers, body = node.ask("details", "/api/v1/details/1")
    assert (status, json.loads(body)["path"]) == (200, "/details/1")
    assert headers["x-internal"] == "shelf 7"
    assert "x-internal" not in node.ask("details", "/details/1")[1]


def test_redirect_and_direct_response(node: Node) -> None:
    status, headers, _ = node.ask("productpage", "/")
    assert (status, headers["location"]) == (302, "http://productpage/productpage")
    status, _, body = node.ask("productpage", "/robots.txt")
    assert (status, body) == (200, b"User-agent: *\nDisallow: /\n")


@pytest.mark.parametrize(
    ("host", "path", "source", "method", "status"),
    [
        ("ratings", "/ratings/0", REVIEWS, "GET", 200),
        ("ratings", "/ratings/0", REVIEWS, "POST", 403),
        ("ratings", "/ratings/0", VISITOR, "GET", 403),
        ("productpage", "/productpage", CRAWLER, "GET", 403),
        ("productpage", "/products/1", CRAWLER, "GET", 403),
        ("productpage", "/productpage", VISITOR, "GET", 200),
        ("productpage", "/products/1", VISITOR, "GET", 200),
        ("productpage", "/products/x", VISITOR, "GET", 404),
        ("nobody", "/", VISITOR, "GET", 404),
    ],
)
def test_who_may_do_what(node: Node, host: str, path: str, source: str, method: str, status: int) -> None:
    assert node.ask(host, path, source=source, method=method)[0] == status


@pytest.mark.parametrize("path", ["/x/../details/0", "/%64etails/0", "/details\\0"])
def test_path_is_normalised_before_it_is_matched_and_sent(node: Node, path: str) -> None:
    status, _, body = node.ask("details", path)
    assert (status, json.loads(body)["path"]) == (200, "/details/0")


def test_killed_server_is_not_noticed_by_clients(node: Node) -> None:
    pods = {node.ask("details", "/details/0")[1]["x-pod"] for _ in range(8)}
    assert pods == {"details-a", "details-b"}
    node.application.kill_pod("details-a")
    answers = [node.ask("details", "/details/0") for _ in range(20)]
    assert {(status, headers.get("x-pod")) for status, headers, _ in answers} == {(200, "details-b")}
    node.application.start_pod("details-a")
    deadline = time.monotonic() + 15
    while node.ask("details", "/details/0")[1]["x-pod"] != "details-a":
        assert time.monotonic() < deadline, "the server that came back is not used"
