"""The agent and the programs together, through real sockets."""

from __future__ import annotations

from tests.kernel.world import World


def test_requests_are_served_in_the_kernel(world: World) -> None:
    world.serve()
    world.start()
    with world.client():
        client = world.connect()
        for number in range(50):
            response = client.get(f"/a/{number}")
            assert (response.status, response.text) == (200, f"s1 /a/{number} body=0 ")
        assert client.get("/deny/x").status == 403
    status = world.status()
    assert status["stats"]["forwarded"] >= 50
    assert status["stats"]["replied"] == 1
