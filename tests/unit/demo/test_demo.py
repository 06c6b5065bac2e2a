"""The demo's application and policies, without a kernel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bench.processes import free_port
from l7fp import frontend
from policies.demo.app import curl, services, topology
from policies.demo.app.http import Client, Handler, Request, serve
from policies.demo.app.node import Count
from policies.demo.app.story import SCENES


def test_policies_have_no_findings() -> None:
    loaded = frontend.load([str(topology.POLICIES)])
    assert [d.message for d in loaded.diagnostics] == []


def test_every_server_pod_belongs_to_a_service_and_has_an_identity_of_its_own() -> None:
    loaded = frontend.load([str(topology.POLICIES)])
    assert loaded.policy is not None
    endpoints = {(e.address, e.port) for c in loaded.policy.clusters for e in c.endpoints}
    assert endpoints == {(p.address, p.port) for p in topology.pods() if p.port}
    cgroups = [w.cgroup for w in loaded.policy.workloads]
    assert sorted(cgroups) == sorted({p.cgroup for p in topology.pods()})


def test_scenes_are_asked_by_pods_that_exist() -> None:
    names = {pod.name for pod in topology.pods()}
    assert {scene.client for scene in SCENES} <= names


def test_counts_differ_by_path() -> None:
    change = Count(kernel=5, slow=1) - Count(kernel=3, slow=1)
    assert (change, bool(change), bool(change - change)) == (Count(2, 0), True, False)


def test_answer_of_curl_that_got_none_is_status_zero() -> None:
    line = '{"status":"000","pod":"","total":0.001}'
    assert curl._answer(line).status == 0


@asynccontextmanager
async def _running(handler: Handler) -> AsyncIterator[int]:
    port = free_port()
    task = asyncio.ensure_future(serve("127.0.0.1", port, handler))
    await asyncio.sleep(0.05)
    try:
        yield port
    finally:
        task.cancel()


def test_server_keeps_connections_and_answers_head_without_a_body() -> None:
    async def scenario() -> None:
        async with _running(services.details("details-a")) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HEAD /details/1 HTTP/1.1\r\nhost: details\r\n\r\nGET /details/1 HTTP/1.1\r\nhost: a\r\n\r\n")
            first = await reader.readuntil(b"\r\n\r\n")
            second = await reader.readuntil(b"\r\n\r\n")
            assert first == second
            length = int(second.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["title"] == "Orlando"
            writer.close()

    asyncio.run(scenario())


def test_client_retries_once_on_a_fresh_connection_when_the_kept_one_has_ended() -> None:
    async def scenario() -> None:
        async with _running(services.details("details-a")) as port:
            client = Client("details", "127.0.0.1", port)
            await client.get("/details/0", {})
            client._idle[0][1].transport.abort()
            status, value = await client.get("/details/0", {})
            assert (status, value["author"]) == (200, "Rachel Carson")
            client._idle[0][1].close()

    asyncio.run(scenario())


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in topology.environment().items():
        monkeypatch.setenv(name, value)
    return None


@pytest.mark.usefixtures("environment")
def test_reviews_pass_on_what_identifies_a_user_and_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, dict[str, str]]] = []

    async def get(self: Client, path: str, headers: dict[str, str]) -> tuple[int, object]:
        sent.append((path, headers))
        return 403, None

    monkeypatch.setattr(Client, "get", get)
    request = Request("GET", "/reviews/1", {"x-user": "ada", "cookie": "secret"})
    response = asyncio.run(services.reviews("reviews-v3", "v3")(request))  # type: ignore[arg-type]
    assert sent == [("/ratings/1", {"x-user": "ada"})]
    assert response.value["stars"] == "unavailable (403)"
