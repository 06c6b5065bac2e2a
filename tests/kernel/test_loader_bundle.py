"""A bundle as the compiler makes it, on the kernel: the verifier takes its programs and the tables arrive whole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from l7fp import abi
from l7fp.codegen import build_bundle
from l7fp.codegen.artifact import Bundle
from l7fp.ir.model import (
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    CidrMatch,
    Cluster,
    Condition,
    Destination,
    Endpoint,
    Field,
    FieldKind,
    HeaderEdits,
    Match,
    Policy,
    Route,
    RouteTable,
    Rule,
    Service,
    StringKind,
    StringMatch,
    VirtualHost,
    Workload,
)
from l7fp.ir.passes.classify import classify
from l7fp.loader import sys as bpf
from l7fp.loader.desired import of
from l7fp.loader.loader import Loader
from l7fp.loader.sys import Kind
from tests.kernel.conftest import Cgroup

CLUSTER = "outbound|80||web.shop"


def _when(kind: FieldKind, *any_of: StringMatch | CidrMatch, name: str = "") -> Match:
    return Match(conditions=(Condition(field=Field(kind, name), any_of=any_of),))


@cache
def bundle_of(cgroup: str, hosts: tuple[str, ...] = ("web.shop",)) -> Bundle:
    """A policy with something in every table."""
    endpoints = (
        Endpoint(address="127.0.0.1", port=8081, workload="shop/web"),
        Endpoint(address="::1", port=8082, workload="shop/web"),
    )
    route = Route(
        destinations=(
            Destination(cluster=CLUSTER, request_headers=HeaderEdits(set=(("x-l", "1"),), remove=("x-old",))),
        ),
        timeout_ms=500,
    )
    rules = (
        Rule(
            name="shop/web/http[0]",
            matches=(_when(FieldKind.PATH, StringMatch(StringKind.PREFIX, "/a")),),
            action=route,
        ),
        Rule(
            name="shop/web/http[1]",
            matches=(_when(FieldKind.HEADER, StringMatch(StringKind.EXACT, "yes"), name="x-canary"),),
            action=Route(destinations=(Destination(cluster=CLUSTER),)),
        ),
    )
    allow = AuthzPolicy(
        name="shop/allow",
        action=AuthzAction.ALLOW,
        rules=(
            AuthzRule(sources=(_when(FieldKind.SOURCE_NAMESPACE, StringMatch(StringKind.EXACT, "shop")),)),
            AuthzRule(sources=(_when(FieldKind.SOURCE_IP, CidrMatch("10.0.0.0/8")),)),
        ),
    )
    return _build(
        Policy(
            tables=(RouteTable(port=80, virtual_hosts=(VirtualHost(name="web.shop:80", domains=hosts, rules=rules),)),),
            clusters=(Cluster(name=CLUSTER, host="web.shop", port=80, endpoints=endpoints),),
            services=(Service(host="web.shop", namespace="shop", addresses=("10.96.0.1", "fd00::1"), ports=(80,)),),
            workloads=(
                Workload(name="shop/client", namespace="shop", cgroup=cgroup),
                Workload(name="shop/web", namespace="shop", policies=("shop/allow",)),
            ),
            authz=(allow,),
        )
    )


def _build(policy: Policy) -> Bundle:
    return build_bundle(policy, classify(policy))


@pytest.fixture
def loader(cgroup: Cgroup, bpffs: str) -> Iterator[Loader]:
    made = Loader(instance="bundle", cgroup=str(cgroup.path), bpffs=bpffs)
    yield made
    made.unload()


def _policy_maps(loader: Loader) -> dict[str, int]:
    """fds of the maps of the version in force, by their names as the kernel cuts them."""
    assert loader._policy is not None
    fds = {}
    for number in bpf.prog_info(loader._policy.program).map_ids:
        fd = bpf.open_id(Kind.MAP, number)
        assert fd is not None
        fds[bpf.map_info(fd).name] = fd
    return fds


def _close(fds: dict[str, int]) -> None:
    for fd in fds.values():
        os.close(fd)


def test_compiled_bundle_loads_and_its_tables_arrive_whole(loader: Loader, cgroup: Cgroup) -> None:
    bundle = bundle_of(cgroup.path.name)
    state = loader.load(bundle)
    assert set(state.endpoints) == {("127.0.0.1", 8081), ("::1", 8082)}
    assert set(loader.maps["captured"].items()) == {
        ("10.96.0.1", 80), ("fd00::1", 80), ("127.0.0.1", 8081), ("::1", 8082),
    }  # fmt: skip
    numbers = [state.endpoints[(e.address, e.port)] for e in bundle.plan.endpoints]
    expected = {**bundle.plan.tables, "endpoints": struct.pack(f"<{len(numbers)}I", *numbers)}
    maps = _policy_maps(loader)
    checked = 0
    for table in abi.TABLES:
        fd = maps.get(bpf.object_name(table.name))
        if fd is None:  # nothing in this program reads it
            continue
        info = bpf.map_info(fd)
        _, values = bpf.map_lookup_batch(fd, 4, info.value_size, info.max_entries)
        assert values.rstrip(b"\0") == expected[table.name].rstrip(b"\0"), table.name
        checked += 1
    _close(maps)
    assert checked >= 10
    assert list(loader.rescan().found) == [cgroup.id]


def test_compiled_bundles_swap_and_unload_without_a_trace(loader: Loader, cgroup: Cgroup) -> None:
    bundles = [bundle_of(cgroup.path.name), bundle_of(cgroup.path.name, hosts=("web.shop", "alias"))]
    loader.load(bundles[0])
    for number in range(10):
        state = loader.swap(bundles[number % 2])
    assert state.version == 11
    loader.unload()
    assert loader.remaining == set()


def test_base_object_does_not_depend_on_the_policy() -> None:
    one, two = bundle_of("a"), bundle_of("b", hosts=("web.shop", "alias"))
    assert of(one).base_digest == of(two).base_digest
    assert of(one).policy_digest != of(two).policy_digest
    assert of(replace(one, manifest={})).policy_digest == of(one).policy_digest
