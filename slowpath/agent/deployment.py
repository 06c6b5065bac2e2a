"""What the agent is given: a policy version in both its halves, and options."""

from __future__ import annotations

from dataclasses import dataclass, field

from l7fp.ir.model import Policy
from l7fp.loader.desired import Desired
from slowpath.agent.pools import PoolOptions
from slowpath.interfaces import DEFAULT_OPTIONS, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One policy version: its meaning, its kernel half, and how records of the latter map to the former.

    `rules` are rule names in the order of counters; `destinations` tell, for each record of the
    table `dests`, the rule and the position in its route.
    """

    policy: Policy
    desired: Desired
    rules: tuple[str, ...] = ()
    destinations: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """`protect`: endpoints refuse what does not come through the agent. `take_over`: even from an agent that
    lives. `unload`: in the end. Times in seconds."""

    protect: bool = False
    take_over: bool = False
    unload: bool = True
    drain_timeout: float = 5.0
    pools: PoolOptions = field(default_factory=PoolOptions)
    proxy: Options = DEFAULT_OPTIONS
