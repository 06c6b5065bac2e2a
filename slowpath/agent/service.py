"""The agent's life: one process, one event loop.

    agent = Agent(loader, deployment)
    await agent.run()      # until `stop` is called

Listeners come before capture, so that no connection is ever sent where nobody listens; in the
end it is the other way round. An agent that is killed leaves the programs pinned: its clients'
connections end, and new ones are refused until another agent runs, or `unload`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from l7fp.errors import L7fpError
from l7fp.loader import features, mounts
from l7fp.loader.loader import Loader
from slowpath.agent.admin import AdminServer, Json, socket_path
from slowpath.agent.cgroups import Membership
from slowpath.agent.deployment import AgentOptions, Deployment
from slowpath.agent.namespaces import NamespaceTable
from slowpath.agent.wiring import Wiring

_IDENTIFY_S = 1.0

DEFAULT_OPTIONS = AgentOptions()


class Agent:
    """Serves `deployment` through `loader` until `stop`; `reload` changes the policy in between.

    `read` turns the path of a bundle into a deployment, for reloads that the admin socket asks for.
    """

    def __init__(
        self,
        loader: Loader,
        deployment: Deployment,
        *,
        options: AgentOptions = DEFAULT_OPTIONS,
        read: Callable[[str], Deployment] | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.removed: list[str] = []  # by the unloading in the end
        self._loader = loader
        self._deployment = deployment
        self._options = options
        self._read = read
        self._stopping = asyncio.Event()
        self._changing = asyncio.Lock()
        self._wiring: Wiring | None = None

    async def run(self) -> None:
        """Load, serve until `stop`, drain, unload. Raises `L7fpError` when it cannot begin; then nothing is left."""
        managed = Path(features.cgroup_directory(self._loader.cgroup))
        membership = Membership(managed, Path(mounts.cgroup2() or "/"))
        try:
            namespaces = NamespaceTable(managed)
            try:
                await self._load_and_serve(namespaces)
            finally:
                namespaces.close()
        finally:
            membership.leave()

    def stop(self) -> None:
        """End `run` in an orderly way."""
        self._stopping.set()

    async def reload(self, deployment: Deployment) -> int:
        """Put another policy in force without touching connections; returns its version.

        Raises `L7fpError`, and then the old one stays in force.
        """
        async with self._changing:
            wiring = self._running()
            loop = asyncio.get_running_loop()
            prepared = await loop.run_in_executor(None, self._loader.prepare, deployment.desired)
            wiring.expect_version(deployment)  # requests may go by it before the swap has returned
            await loop.run_in_executor(None, self._loader.swap, prepared)
            return wiring.adopt_version(deployment)

    def status(self) -> dict[str, Any]:
        """See `Wiring.status`."""
        return self._running().status()

    def _running(self) -> Wiring:
        if self._wiring is None or self._stopping.is_set():
            raise L7fpError("the agent is not serving")
        return self._wiring

    # -- the steps

    async def _load_and_serve(self, namespaces: NamespaceTable) -> None:
        options = self._options

        def before_attach() -> None:
            self._wiring = Wiring(self._loader, namespaces, self._deployment, options)
            self._wiring.prepare()

        loaded = False
        try:
            self._loader.load(
                self._deployment.desired,
                protect=options.protect,
                take_over=options.take_over,
                before_attach=before_attach,
            )
            loaded = True
            assert self._wiring is not None
            await self._serve(self._wiring)
        finally:
            if self._wiring is not None:
                self._wiring.close()
                self._wiring = None
            if loaded and options.unload:
                self.removed = self._loader.unload()
            self._loader.close()

    async def _serve(self, wiring: Wiring) -> None:
        admin = AdminServer(
            socket_path(self._loader.instance),
            {"status": self._op_status, "drain": self._op_drain, "reload": self._op_reload},
            wiring.events,
        )
        await admin.start()
        identifying = asyncio.ensure_future(self._keep_identifying(wiring))
        try:
            wiring.start()
            self.ready.set()
            await self._stopping.wait()
        finally:
            identifying.cancel()
            await admin.close()
            if self._options.unload:
                wiring.kernel.stop_capture()
            await wiring.drain(self._options.drain_timeout)

    async def _keep_identifying(self, wiring: Wiring) -> None:
        """Cgroups come and go with pods; not while a policy is being swapped in another thread."""
        while True:
            await asyncio.sleep(_IDENTIFY_S)
            async with self._changing:
                wiring.identify()

    # -- admin

    async def _op_status(self, request: Json) -> Json:
        return self.status()

    async def _op_drain(self, request: Json) -> Json:
        self.stop()
        return {}

    async def _op_reload(self, request: Json) -> Json:
        path = request.get("bundle")
        if self._read is None or not isinstance(path, str):
            raise L7fpError('"reload" needs "bundle", the path of one')
        return {"version": await self.reload(self._read(path))}


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
