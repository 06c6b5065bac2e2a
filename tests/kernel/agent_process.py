"""An agent in a process of its own: `python -m tests.kernel.agent_process INSTANCE BPFFS CGROUP PROTECT FILE`.

FILE holds a pickled `Deployment`. Prints `ready`; then each line on standard input is a file with another one, which
is put in force and answered by its version. SIGTERM ends it in order.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from pathlib import Path

from l7fp.loader.loader import Loader
from slowpath.agent.deployment import AgentOptions, Deployment
from slowpath.agent.service import Agent, run


def read(path: str) -> Deployment:
    deployment = pickle.loads(Path(path).read_bytes())
    assert isinstance(deployment, Deployment)
    return deployment


async def main(instance: str, bpffs: str, cgroup: str, protect: str, path: str) -> None:
    loader = Loader(instance=instance, cgroup=cgroup, bpffs=bpffs)
    agent = Agent(loader, read(path), options=AgentOptions(protect=protect == "1"), read=read)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, agent.stop)
    serving = asyncio.ensure_future(agent.run())
    ready = asyncio.ensure_future(agent.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        print("ready", flush=True)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        commands = asyncio.ensure_future(follow(agent, reader))
        await serving
        commands.cancel()
    else:
        ready.cancel()
        await serving


async def follow(agent: Agent, reader: asyncio.StreamReader) -> None:
    while line := await reader.readline():
        print(await agent.reload(read(line.decode().strip())), flush=True)


if __name__ == "__main__":
    run(main(*sys.argv[1:6]))
