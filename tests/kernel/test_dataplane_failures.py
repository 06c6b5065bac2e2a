"""Servers and clients that break off, at every moment of a transaction."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from tests.kernel.world import Client, World, request


def reset(client: Client) -> None:
    """Close with a RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


@pytest.mark.parametrize("path", ["/die", "/fin"])
def test_a_server_that_leaves_without_an_answer_costs_a_503_and_the_client_lives_on(served: World, path: str) -> None:
    with served.client():
        client = served.connect()
        for number in range(10):
            assert client.get(path).status == 503
            assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "


def test_the_first_request_of_a_connection_may_fail_too(served: World) -> None:
    with served.client():
        for _ in range(20):
            assert served.connect().get("/die").status == 503


def test_a_response_that_breaks_off_ends_the_connection_and_no_other(served: World) -> None:
    with served.client():
        bystander = served.connect()
        for size in (1000, 100_000, 1_000_000):
            client = served.connect()
            client.send(request(f"/half/{size}"))
            with pytest.raises((EOFError, ConnectionError)):
                client.read()
            assert bystander.get("/a/x").text == "s1 /a/x body=0 "


def test_a_server_that_wants_to_close_is_not_asked_again_and_the_client_is_not_told(served: World) -> None:
    with served.client():
        client = served.connect()
        for number in range(20):
            response = client.get(f"/last/{number}")
            assert response.text == f"s1 /last/{number} body=0 "
            assert response.header("connection") is None
            assert client.get("/a/x").text == "s1 /a/x body=0 "


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_poisons_no_slot(served: World, how: str) -> None:
    with served.client():
        for _ in range(10):
            leaving = served.connect()
            leaving.send(request("/sleep/50"))
            time.sleep(0.005)
            leaving.sock.close() if how == "close" else reset(leaving)
        others = [served.connect() for _ in range(20)]
        for _ in range(10):
            for number, client in enumerate(others):
                assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
            time.sleep(0.01)


def test_a_client_that_leaves_in_the_middle_of_its_body_poisons_no_slot(served: World) -> None:
    with served.client():
        for _ in range(10):
            leaving = served.connect()
            leaving.send(request("/a/upload", "Content-Length: 100000", method="POST") + b"x" * 1000)
            time.sleep(0.002)
            leaving.sock.close()
        client = served.connect()
        for number in range(30):
            assert client.post(f"/a/{number}", b"y" * 100).text == f"s1 /a/{number} body=100 "


def test_a_late_answer_is_a_504_and_the_next_request_is_served(served: World) -> None:
    with served.client():
        client = served.connect()
        for number in range(5):
            began = time.monotonic()
            assert client.get("/timeout/sleep/1000").status == 504
            assert 0.19 < time.monotonic() - began < 0.6
            assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "


def test_the_late_answer_itself_reaches_nobody(served: World) -> None:
    with served.client():
        clients = [served.connect() for _ in range(10)]
        assert [c.get("/timeout/sleep/400").status for c in clients] == [504] * 10
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            for number, client in enumerate(clients):
                assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "


def test_a_request_within_its_time_is_not_disturbed(served: World) -> None:
    with served.client():
        client = served.connect()
        for _ in range(3):
            assert client.get("/timeout/sleep/100").text == "s1 /timeout/sleep/100 body=0 "


def test_swallowing_is_never_sticky(served: World) -> None:
    """SK_DROP would make every later send of the socket fail with EACCES."""
    with served.client():
        client = served.connect()
        for _ in range(5):
            client.send(request("/die", "Content-Length: 60000", method="POST"))
            time.sleep(0.02)
            client.send(b"z" * 30_000)
            client.send(b"z" * 30_000)
            assert client.read().status in (200, 503)
            assert client.get("/a/x").text == "s1 /a/x body=0 "


def test_connections_come_and_go_by_the_thousand(served: World) -> None:
    with served.client():
        for number in range(1500):
            client = served.connect()
            for step in range(number % 3):
                path = ("/a", "/slow", "/deny", "/rewrite")[(number + step) % 4] + f"/{number}"
                response = client.get(path)
                assert response.status == (403 if path.startswith("/deny") else 200)
            reset(client) if number % 2 else client.sock.close()
    served.wait(lambda: served.status()["connections"] == 0)


def test_a_killed_server_under_load_costs_nothing_but_503(world: World) -> None:
    server = world.serve()
    world.start()
    wrong: list[object] = []
    answered = {200: 0, 503: 0}
    stop = threading.Event()

    def load(number: int) -> None:
        client = world.connect()
        sent = 0
        while not stop.is_set():
            sent += 1
            path = f"/{'slow' if sent % 5 == 0 else 'a'}/{number}/{sent}"
            try:
                response = client.get(path)
            except (OSError, EOFError) as error:
                wrong.append((path, repr(error)))
                return
            answered[response.status] = answered.get(response.status, 0) + 1
            if response.status == 200 and response.text != f"s1 {path} body=0 ":
                wrong.append((path, response))
                return

    with world.client():
        threads = [threading.Thread(target=load, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.3)
            server.kill()
            server.wait()
            time.sleep(0.1)
            server = world.serve(port=world.endpoints[0][1])
            world.wait_usable()
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not wrong
    assert set(answered) == {200, 503}
    assert answered[200] > 1000
    assert answered[503] > 0
    with world.client(), world.counting() as grown:
        assert world.connect().get("/a/x").text == "s1 /a/x body=0 "
    assert grown["forwarded"] == 1
