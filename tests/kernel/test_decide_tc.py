"""Decisions in the kernel are those of the same code and tables on the host."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from l7fp import abi
from l7fp.codegen import cc
from l7fp.codegen.plan import Plan
from l7fp.errors import CompileError
from tests.hostc import HostC
from tests.kernel.decider import Decider
from tests.unit.codegen.policies import all_kernel, contains, exact, header, path, policy, prefix, rule, sample, say, to


def policies() -> dict[str, Plan]:
    many = [rule(f"r{n}", to("one"), (path(prefix(f"/svc-{n}/")),), (path(exact(f"/svc-{n}")),)) for n in range(300)]
    guarded = [rule(f"h{n}", say(str(n)), (path(prefix("/h")), header("x-user", contains(f"u{n}")))) for n in range(60)]
    return {"sample": all_kernel(sample()), "many": all_kernel(policy(*guarded, *many))}


def messages(rng: random.Random) -> Iterator[bytes]:
    paths = ("/", "/api/a", "/api-post", "/api/admin", "/old/x", "/users/12", "/h/x", "/svc-7/x", "/svc-299", "/x.doc",
             "/a" * 900, "/%41", "/api/../x")  # fmt: skip
    hosts = ("shop.example", "SHOP.example:80", "a.shop.example:81", "other")
    for target, host in itertools.product(paths, hosts):
        lines = [f"host: {host}"]
        lines += rng.sample(["x-user: guest", "X-Debug: 1", "x-user: u59u3", "accept: */*", "x-by: me"], 2)
        query = rng.choice(["", "?debug=1", "?debug=2&x", "?debug"])
        method = rng.choice(["GET", "GET", "POST", "PUT", "HEAD"])
        yield "\r\n".join([f"{method} {target}{query} HTTP/1.1", *lines, "", ""]).encode()


def compilers() -> list[str]:
    out = []
    for name in ("zig", "clang"):
        try:
            cc.find_compiler(name)
        except CompileError:
            continue
        out.append(name)
    return out


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("name", ["sample", "many"])
def test_kernel_decides_as_the_host(name: str, compiler: str) -> None:
    plan = policies()[name]
    host, rng = HostC(plan), random.Random(3)
    verdicts = set()
    with Decider(plan, compiler) as kernel:
        for message in messages(rng):
            chance, source = rng.getrandbits(32), rng.getrandbits(2)
            want = host.request(message, source_bits=source, random=chance)
            parsed, verdict, reason, *indexes = kernel.decide(message, port=80, source_bits=source, random=chance)
            assert parsed == want.parsed, message
            if parsed:
                continue
            verdicts.add(abi.Verdict(verdict))
            assert (verdict, reason) == (want.verdict, want.reason), message
            assert [None if i == abi.NONE else i for i in indexes] == [want.rule, want.dest, want.reply], message
    assert verdicts == set(abi.Verdict)


def test_a_program_that_never_ends_diverts() -> None:
    plan = all_kernel(policy(rule("r", say(""))))
    size = abi.BY_NAME["instr"].size
    loop = abi.BY_NAME["instr"].pack(op=abi.Op.JUMP, target=0) * (len(plan.tables["code"]) // size)
    plan.tables["code"] = loop
    message = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    with Decider(plan) as kernel:
        _, verdict, reason, *_ = kernel.decide(message, port=80, source_bits=0, random=0)
    assert (verdict, reason) == (abi.Verdict.DIVERT, abi.Reason.STEP_LIMIT)
    assert HostC(plan).request(message).reason is abi.Reason.STEP_LIMIT
