"""What is measured: the loads, and which contestants can carry each."""

from __future__ import annotations

from dataclasses import dataclass

from bench.rules import DENIED_PATH, FAST_PATH, REWRITTEN_PATH, SLOW_PATH
from bench.wrk import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One load. `drivers` empty: all contestants. `quick`: also part of a short run."""

    name: str
    title: str
    load: Load
    drivers: tuple[str, ...] = ()
    quick: bool = False


_POLICED = ("envoy1", "envoy1-t2", "envoy2", "envoy2-t2", "l7fp", "l7fp-slow")


def _load(
    *paths: str, connections: int = 64, method: str = "GET", body_bytes: int = 0, expect_errors: bool = False
) -> Load:
    return Load(
        paths=paths,
        connections=connections,
        seconds=0,
        method=method,
        body_bytes=body_bytes,
        expect_errors=expect_errors,
    )


HTTP1: tuple[Scenario, ...] = (
    Scenario(name="get-1", title="GET, 100 bytes, 1 connection", load=_load(FAST_PATH, connections=1), quick=True),
    Scenario(name="get-32", title="GET, 100 bytes, 32 connections", load=_load(FAST_PATH, connections=32)),
    Scenario(name="get-64", title="GET, 100 bytes, 64 connections", load=_load(FAST_PATH), quick=True),
    Scenario(
        name="rewrite-64",
        title="path rewritten and a header set, 64 connections",
        load=_load(REWRITTEN_PATH),
        drivers=_POLICED,
    ),
    Scenario(
        name="deny-64",
        title="denied with 403, 64 connections",
        load=_load(DENIED_PATH, expect_errors=True),
        drivers=_POLICED,
        quick=True,
    ),
    Scenario(
        name="mixed-64",
        title="one request in ten on a slow-path route, 64 connections",
        load=_load(*[FAST_PATH] * 9, SLOW_PATH),
        quick=True,
    ),
    Scenario(
        name="diverted-1",
        title="every request diverted, 1 connection",
        load=_load(SLOW_PATH, connections=1),
    ),
    Scenario(
        name="diverted-64",
        title="every request diverted, 64 connections",
        load=_load(SLOW_PATH),
    ),
    Scenario(
        name="post-64",
        title="POST of 1 KB, 64 connections",
        load=_load(FAST_PATH, method="POST", body_bytes=1024),
    ),
    Scenario(name="body-64k", title="response of 64 KB, 64 connections", load=_load("/bytes/65536")),
    Scenario(name="body-5m", title="response of 5 MB, 8 connections", load=_load("/bytes/5242880", connections=8)),
)
