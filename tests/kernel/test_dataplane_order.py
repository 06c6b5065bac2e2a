"""Fast and slow requests on one connection: nothing overtakes, nothing is lost, nothing is mixed up."""

from __future__ import annotations

import socket
import time

import pytest

from tests.kernel.world import Client, World, request


def test_a_fast_answer_never_overtakes_an_unread_slow_one(served: World) -> None:
    with served.counting() as grown, served.client():
        for _ in range(20):
            client = served.connect()
            client.send(request("/slow/1"))
            time.sleep(0.02)  # its answer waits in TCP's queue, the next would go into the other
            client.send(request("/a/2"))
            time.sleep(0.02)
            assert [client.read().text, client.read().text] == ["s1 /slow/1 body=0 ", "s1 /a/2 body=0 "]
    assert grown["unread_answer"] == 20


def test_a_connection_comes_back_to_the_kernel_once_its_slow_answer_is_read(served: World) -> None:
    with served.client():
        client = served.connect()
        for number in range(10):
            before = served.stat("forwarded")
            assert client.get(f"/slow/{number}").text == f"s1 /slow/{number} body=0 "
            assert client.get(f"/a/{number}").text == f"s1 /a/{number} body=0 "
            assert served.stat("forwarded") == before + 1


def test_pipelined_requests_in_one_message_are_answered_in_order(served: World) -> None:
    with served.client():
        client = served.connect()
        paths = ["/a/1", "/slow/2", "/deny/3", "/a/4", "/rewrite/5"]
        client.send(b"".join(request(p) for p in paths))
        texts = [client.read().text for _ in paths]
    assert texts == ["s1 /a/1 body=0 ", "s1 /slow/2 body=0 ", "denied", "s1 /a/4 body=0 ", "s1 /rewritten/5 body=0 "]


def test_requests_pipelined_behind_one_in_the_kernel_wait_for_it(served: World) -> None:
    with served.counting() as grown, served.client():
        for _ in range(10):
            client = served.connect()
            client.send(request("/sleep/30"))
            time.sleep(0.005)
            client.send(request("/a/second"))
            client.send(request("/deny/third"))
            texts = [client.read().text for _ in range(3)]
            assert texts == ["s1 /sleep/30 body=0 ", "s1 /a/second body=0 ", "denied"]
    assert grown["pipelined"] >= 10


def test_a_head_in_pieces_is_served_and_the_connection_comes_back(served: World) -> None:
    with served.client():
        client = served.connect()
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = request("/a/pieces")
        for at in range(0, len(whole), 7):
            client.send(whole[at : at + 7])
        assert client.read().text == "s1 /a/pieces body=0 "
        before = served.stat("forwarded")
        assert client.get("/a/whole").text == "s1 /a/whole body=0 "
        assert served.stat("forwarded") == before + 1


def test_a_shorter_message_after_a_corked_one_is_not_held_back(served: World) -> None:
    """Stale cork and apply counts of the previous message would keep the next one for ever."""
    with served.client():
        client = served.connect()
        for length in (3000, 40, 2000, 17, 900):
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            whole = request("/a/" + "x" * length)
            client.send(whole[:20])
            client.send(whole[20:])
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            assert client.read().text == f"s1 /a/{'x' * length} body=0 "
            assert client.get("/a/s").text == "s1 /a/s body=0 "


def test_a_body_that_follows_its_head_goes_where_the_head_went(served: World) -> None:
    with served.counting() as grown, served.client():
        client = served.connect()
        for size in (1, 1000, 100_000, 200_000):
            body = b"b" * size
            client.send(request("/a/upload", f"Content-Length: {size}", method="POST"))
            for at in range(0, size, 30_000):
                client.send(body[at : at + 30_000])
            assert client.read().text == f"s1 /a/upload body={size} "
            assert client.get("/a/after").text == "s1 /a/after body=0 "
    assert grown["body"] >= 4
    assert not grown["body_too_large"]


def test_a_request_right_behind_a_body_in_the_same_message_is_answered_too(served: World) -> None:
    with served.client():
        client = served.connect()
        client.send(request("/a/upload", "Content-Length: 10", method="POST"))
        client.send(b"0123456789" + request("/a/behind"))
        assert client.read().text == "s1 /a/upload body=10 "
        assert client.read().text == "s1 /a/behind body=0 "
        assert client.get("/a/after").text == "s1 /a/after body=0 "


def test_the_first_bytes_of_a_message_never_drag_the_rest_to_their_target(served: World) -> None:
    """`sk_redir` survives from run to run: the tail of a message must not follow its head to the server."""
    with served.client():
        client = served.connect()
        for number in range(20):
            client.send(request(f"/a/{number}") + request(f"/deny/{number}") + request(f"/a/{number}/b"))
            assert client.read().text == f"s1 /a/{number} body=0 "
            assert client.read().status == 403
            assert client.read().text == f"s1 /a/{number}/b body=0 "


@pytest.mark.parametrize("path", ["/split/1", "/chunked/100", "/chunked/70000", "/http10", "/continue", "/eof/50000"])
def test_responses_of_every_shape_arrive_whole(served: World, path: str) -> None:
    with served.client():
        client = served.connect()
        for _ in range(3):
            response = client.get(path)
            assert response.status == 200
            assert response.text.startswith(f"s1 {path} body=0 ")
            assert client.get("/a/after").text == "s1 /a/after body=0 "


def test_the_answer_to_head_has_no_body(served: World) -> None:
    with served.client():
        client = served.connect()
        for _ in range(3):
            assert client.get("/a/x", method="HEAD").header("content-length") == "15"
            assert client.get("/a/after").text == "s1 /a/after body=0 "


def test_a_server_that_answers_twice_confuses_nobody(served: World) -> None:
    with served.client():
        first, second = served.connect(), served.connect()
        for _ in range(5):
            assert first.get("/twice").text == "s1 /twice body=0 "
            for client in (second, first):
                assert client.get("/a/own").text == "s1 /a/own body=0 "


def test_a_server_that_speaks_unasked_is_cut_off(served: World) -> None:
    with served.counting() as grown, served.client():
        first, second = served.connect(), served.connect()
        for _ in range(3):
            assert first.get("/stray/10").text == "s1 /stray/10 body=0 "
            time.sleep(0.05)
            for client in (second, first):
                assert client.get("/a/own").text == "s1 /a/own body=0 "
    assert grown["stray_response"] == 3


def test_a_server_may_answer_before_it_has_the_body(served: World) -> None:
    with served.client():
        client = served.connect()
        for _ in range(3):
            client.send(request("/early", "Content-Length: 50000", method="POST"))
            assert client.read().text == "early"
            client.send(b"e" * 50_000)
            assert client.get("/a/after").text == "s1 /a/after body=0 "


def test_edits_apply_in_both_directions(served: World) -> None:
    with served.counting() as grown, served.client():
        client = served.connect()
        response = client.get("/edit/head")
        assert "x-request-edit: 1" in response.text
        assert (response.header("x-response-edit"), response.header("server")) == ("1", None)
        assert client.get("/rewrite/a?b=c").text == "s1 /rewritten/a?b=c body=0 "
    assert grown["forwarded"] == 2


def test_a_message_that_spans_many_fragments_is_read_whole(served: World) -> None:
    with served.counting() as grown, served.client():
        client = served.connect()
        for size in (1400, 4000, 8000, 16_000):
            filler = "f" * (size - len(request("/a/x", "Cookie: ")))
            whole = request("/a/x", f"Cookie: {filler}")
            pieces = [whole[at : at + 97] for at in range(0, len(whole), 97)]
            client.sock.sendmsg(pieces)
            assert client.read().text == "s1 /a/x body=0 "
    assert grown["forwarded"] == 4


def test_a_half_closed_client_gets_its_answer(served: World) -> None:
    with served.client():
        for path in ("/a/x", "/sleep/100", "/slow/x", "/big/300000"):
            client: Client = served.connect()
            client.send(request(path))
            client.sock.shutdown(socket.SHUT_WR)
            assert client.read().text.startswith(f"s1 {path} body=0 ")
            assert client.ended()
