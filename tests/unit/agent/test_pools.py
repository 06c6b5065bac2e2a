"""The pool of an endpoint, over real loopback connections and fake maps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from l7fp.abi import CtlOp, SlotFlag
from slowpath.agent import pools
from slowpath.agent.namespaces import NamespaceTable
from slowpath.agent.pools import Pool, PoolOptions, Rules, Upstream
from slowpath.agent.slots import SlotIds
from tests.unit.agent.memory import FakeKernel, in_loop, until

FAST = PoolOptions(minimum=4, maximum=32, ready_timeout=0.05, unmanaged_retry=0.05, shrink_after=0.05)


class Setting:
    """A pool, its kernel, and a server that accepts and holds."""

    def __init__(self, options: PoolOptions = FAST) -> None:
        self.kernel = FakeKernel()
        self.namespaces = NamespaceTable(Path("/nonexistent"), netns_dirs=())
        self.readable: list[Upstream] = []
        self.ids = SlotIds()
        self.held: list[socket.socket] = []
        self.server = self.listen()
        self.port = self.server.getsockname()[1]
        self.rules = Rules(
            kernel=self.kernel,
            namespaces=self.namespaces,
            loop=asyncio.get_running_loop(),
            on_readable=self.readable.append,
            new_slot=self.ids.new,
            options=options,
        )
        self.pool = Pool(self.rules, "127.0.0.1", self.port)

    def listen(self, port: int = 0) -> socket.socket:
        server = socket.create_server(("127.0.0.1", port), backlog=100)
        server.setblocking(False)
        asyncio.get_running_loop().add_reader(server.fileno(), self._accept, server)
        return server

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            self.held.append(server.accept()[0])

    def hang_up(self) -> None:
        """The server goes, with all its connections."""
        if self.server.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.server.fileno())
        for sock in [self.server, *self.held]:
            sock.close()
        self.held.clear()

    @property
    def tokens(self) -> list[int]:
        return self.kernel.pools[self.pool.id]

    @property
    def usable(self) -> bool:
        return bool(self.kernel.endpoints.usable[self.pool.id])

    async def filled(self) -> None:
        """Ticks as the agent does, until the pool has what it wants."""
        while len(self.pool.live) != self.pool.target:
            self.pool.tick()
            await asyncio.sleep(0.001)

    async def started(self) -> None:
        self.pool.scan()
        await self.filled()


@contextlib.asynccontextmanager
async def setting(options: PoolOptions = FAST) -> AsyncIterator[Setting]:
    at = Setting(options)
    try:
        yield at
    finally:
        at.pool.close()
        await asyncio.sleep(0)
        at.hang_up()
        at.namespaces.close()


@in_loop
async def test_connections_are_tagged_before_they_are_offered_and_each_has_one_token() -> None:
    async with setting() as at:
        assert not at.usable
        await at.started()
        assert at.usable
        assert sorted(at.tokens) == sorted(at.pool.live) == [1, 2, 3, 4]
        assert set(at.kernel.upstreams.values()) == {1, 2, 3, 4}
        assert all(at.kernel.slots.endpoint[s] == at.pool.id for s in at.pool.live)
        assert at.kernel.slots.state.tolist()[1:5] == [0, 0, 0, 0]
        # a server's connection that turns up now must not take an offered slot over
        assert at.kernel.slots.expect.tolist()[1:5] == [0, 0, 0, 0]


@in_loop
async def test_a_pool_found_empty_doubles_up_to_its_bound() -> None:
    async with setting() as at:
        await at.started()
        sizes = []
        for _ in range(4):
            at.kernel.endpoints.empty[at.pool.id] += 3
            at.pool.tick()
            await at.filled()
            sizes.append(len(at.pool.live))
        assert sizes == [8, 16, 32, 32]
        assert sorted(at.tokens) == sorted(at.pool.live)


@in_loop
async def test_a_pool_found_empty_grows_at_once_to_what_a_crowd_of_clients_missed() -> None:
    for missed, clients, target in ((50, 20, 20), (12, 20, 12), (1, 20, 8), (900, 3, 8), (900, 900, 32)):
        async with setting() as at:
            at.rules.clients = lambda clients=clients: clients
            await at.started()
            at.kernel.endpoints.empty[at.pool.id] += missed
            at.pool.tick()
            assert at.pool.target == target


@in_loop
async def test_a_pool_nearly_used_up_grows_before_it_is_empty() -> None:
    async with setting() as at:
        await at.started()
        for slot in list(at.pool.live)[:4]:
            at.kernel.slots.state[slot] = SlotFlag.BUSY | 9
        at.pool.tick()
        assert at.pool.target == 8


@in_loop
async def test_a_pool_that_is_not_used_shrinks_to_its_minimum() -> None:
    async with setting() as at:
        await at.started()
        at.kernel.endpoints.empty[at.pool.id] += 1
        at.pool.tick()
        await at.filled()
        assert len(at.pool.live) == 8
        at.pool.tick()
        await asyncio.sleep(0.06)
        at.pool.tick()
        assert len(at.pool.live) == 4
        assert sorted(at.tokens) == sorted(at.pool.live)


@in_loop
async def test_a_server_that_is_down_is_not_usable_and_comes_back_by_itself() -> None:
    async with setting() as at:
        at.hang_up()
        at.pool.scan()
        at.pool.tick()
        await until(lambda: at.pool.failure)
        assert "refused" in at.pool.failure.lower()
        assert not at.usable
        at.server = at.listen(at.port)
        await until(lambda: len(at.pool.live) == 4)
        assert at.usable
        assert at.pool.failure == ""


@in_loop
async def test_a_server_outside_the_managed_cgroup_stays_on_the_slow_path() -> None:
    async with setting() as at:
        at.kernel.ready_at_connect = False
        at.pool.scan()
        at.pool.tick()
        await until(lambda: at.pool.failure)
        assert "cgroup" in at.pool.failure
        assert not at.usable
        assert not at.tokens
        at.kernel.ready_at_connect = True
        await until(lambda: len(at.pool.live) == 4)
        assert at.usable


@in_loop
async def test_a_slot_that_ends_is_replaced_and_its_token_taken_out() -> None:
    async with setting() as at:
        await at.started()
        at.pool.retire(at.pool.live[2])
        assert 2 not in at.pool.live
        assert at.kernel.slots.state[2] == SlotFlag.DEAD
        await until(lambda: len(at.pool.live) == 4 and 2 not in at.tokens)
        assert sorted(at.tokens) == sorted(at.pool.live) == [1, 3, 4, 5]


@in_loop
async def test_a_slot_that_ends_in_a_transaction_is_reset_and_one_at_rest_is_closed() -> None:
    async with setting() as at:
        await at.started()
        await until(lambda: len(at.held) == 4)
        server_side = {sock.getpeername(): sock for sock in at.held}
        in_transaction, at_rest = (at.pool.live[s] for s in (1, 2))
        peers = [server_side[u.sock.getsockname()] for u in (in_transaction, at_rest)]
        at.kernel.slots.state[1] = SlotFlag.BUSY | SlotFlag.REQUEST_DONE | 9
        for upstream in (in_transaction, at_rest):
            at.pool.retire(upstream)
        outcomes: list[bytes | None] = []
        for peer in peers:
            peer.settimeout(1)
            try:
                outcomes.append(peer.recv(1))
            except ConnectionResetError:
                outcomes.append(None)
        assert outcomes == [None, b""]


@in_loop
async def test_an_ended_id_rests_before_it_is_used_again() -> None:
    async with setting() as at:
        await at.started()
        at.pool.retire(at.pool.live[2])
        await until(lambda: 5 in at.pool.live)
        rest, pools.REST_S = pools.REST_S, 0.0
        try:
            at.pool.retire(at.pool.live[3])
            await until(lambda: len(at.pool.live) == 4)
            assert sorted(at.pool.live) == [1, 2, 4, 5]
        finally:
            pools.REST_S = rest


@in_loop
async def test_a_rebuild_never_makes_a_second_token() -> None:
    async with setting() as at:
        await at.started()
        taken = at.tokens.pop()  # a client holds it, and has not marked the slot yet
        at.pool.rebuild()
        at.pool.rebuild()
        assert taken not in at.tokens
        assert max(Counter(at.tokens).values()) == 1
        at.tokens.append(taken)
        at.tokens.append(99)  # of a slot that is no more
        at.pool.rebuild()
        assert sorted(at.tokens) == sorted(at.pool.live)


@in_loop
async def test_the_order_of_tokens_survives_a_rebuild() -> None:
    async with setting() as at:
        await at.started()
        before = list(at.tokens)
        at.pool.rebuild()
        assert at.tokens == before


@in_loop
async def test_a_token_that_the_kernel_lost_is_found_after_a_while() -> None:
    async with setting() as at:
        await at.started()
        pools_rest, pools.REST_S = pools.REST_S, 0.02
        try:
            lost = at.tokens.pop(0)
            at.pool.rebuild()
            assert lost not in at.tokens
            await asyncio.sleep(0.03)
            at.pool.rebuild()
            assert sorted(at.tokens) == sorted(at.pool.live)
        finally:
            pools.REST_S = pools_rest


@in_loop
async def test_an_offer_that_fails_is_made_again() -> None:
    async with setting() as at:
        at.kernel.refuse_push = True
        await at.started()
        assert not at.tokens
        at.kernel.refuse_push = False
        at.pool.tick()
        assert sorted(at.tokens) == sorted(at.pool.live)


@in_loop
async def test_what_the_programs_gave_up_is_replaced() -> None:
    async with setting() as at:
        await at.started()
        at.tokens.remove(3)
        at.kernel.slots.state[3] = SlotFlag.BUSY | SlotFlag.DEAD | 9
        at.pool.tick()
        assert 3 not in at.pool.live
        await until(lambda: len(at.pool.live) == 4)


@in_loop
async def test_a_lent_connection_is_watched_by_nobody_else() -> None:
    async with setting() as at:
        await at.started()
        await until(lambda: len(at.held) == 4)
        upstream = at.pool.live[1]
        peer = next(s for s in at.held if s.getpeername() == upstream.sock.getsockname())
        at.pool.lend(upstream)
        peer.send(b"x")
        await asyncio.sleep(0.01)
        assert at.readable == []
        at.pool.retire(upstream)  # only ended: the proxy still reads from it
        assert upstream.sock.fileno() >= 0
        at.pool.take_back(upstream)
        await until(lambda: at.readable)
        assert at.readable[0] is upstream


@in_loop
async def test_closing_leaves_no_connection_no_token_and_nothing_usable() -> None:
    async with setting() as at:
        await at.started()
        at.pool.close()
        assert not at.pool.live
        assert not at.tokens
        assert not at.usable
        await asyncio.sleep(0.03)
        assert not at.pool.live
        assert all(op in (CtlOp.OFFER, CtlOp.KILL) for op, _ in at.kernel.calls)
