"""The conformance corpus: one set of cases that every executor must agree on.

A `*.yaml` file here is a list of YAML documents, each with `about`, a policy (`ir`, textual IR, or `istio`,
Istio YAML) and `cases`. A case:

    name       unique in its file
    request    `METHOD TARGET`, with `host` (default a.b), `headers` (list of `name: value`) and `port` (80);
               or `raw`, the bytes of the head as text
    from       workload that asks; or `source`, fields of `interp.Source`
    to         original destination address
    pick       numbers that stand for the random choices, in order (default 0)
    expect     see `Expectation`

Executors implement `Executor`; a case that one can't express it answers with `Skipped`, one that it rightly leaves
to the slow path with `Diverted`. Where Envoy differs on purpose is in `envoy.toml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from l7fp.frontend import load_text
from l7fp.ir.model import Policy
from l7fp.ir.parser import parse_policy
from l7fp.ir.request import Request, Source

HERE = Path(__file__).parent

UPSTREAM_HEADERS = (("server", "up"), ("x-up", "1"), ("x-up", "2"))
"""Headers of the 200 answer that every upstream gives, before response edits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must come out. None: not looked at.

    `forward`: cluster that is chosen; `status`: of an answer made on the way (exactly one of the two).
    `path`, `authority`, `sent`: the request that goes upstream; `reply`: headers that the client gets, of an
    upstream's answer or of one made on the way. `sent` and `reply` map a name to its values, none: absent.
    `kernel`: whether classification keeps the rule (and all that guards it) in the kernel.
    """

    forward: str | None = None
    endpoint: str | None = None
    status: int | None = None
    code: str | None = None
    body: str | None = None
    rule: str | None = None
    policy: str | None = None
    path: str | None = None
    authority: str | None = None
    sent: dict[str, list[str]] = field(default_factory=dict)
    reply: dict[str, list[str]] = field(default_factory=dict)
    kernel: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case with the policy it is about."""

    id: str
    policy: Policy
    request: Request
    raw: bytes
    pick: tuple[int, ...]
    expect: Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an executor saw. Fields that it can't see are None and are not compared."""

    forward: str | None
    status: int | None
    endpoint: str | None = None
    code: str | None = None
    body: str | None = None
    rule: str | None = None
    policy: str | None = None
    path: str | None = None
    authority: str | None = None
    sent: tuple[tuple[str, str], ...] | None = None
    reply: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The executor can't express the case."""

    reason: str


@dataclass(frozen=True, slots=True)
class Diverted:
    """The executor leaves the case to the slow path, which it may unless the case is one for the kernel."""

    reason: str


class Executor(Protocol):
    """Something that enforces policies. A context manager, which frees what it holds."""

    name: str

    def __enter__(self) -> Executor: ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, case: Case) -> Outcome | Skipped | Diverted:
        """Play the case."""
        ...


def cases(pattern: str = "*.yaml") -> list[Case]:
    """All cases of the files that fit, in order."""
    return [case for path in sorted(HERE.glob(pattern)) for case in _read(path)]


def is_wanted(case: Case, outcome: Outcome) -> bool:
    """Whether chance fell as the case has it, as far as one can see: for executors that ask until it does."""
    expect, end = case.expect, outcome.endpoint
    same = (outcome.forward, outcome.status) == (expect.forward, expect.status)
    return same and (end is None or expect.endpoint in (None, end))


def check(case: Case, outcome: Outcome | Skipped | Diverted, expect: Expectation | None = None) -> None:
    """Assert that the outcome is the expected one (by default the case's), as far as the executor saw it."""
    expect = expect or case.expect
    if isinstance(outcome, Diverted):
        assert not expect.kernel, f"not served in the kernel: {outcome.reason}"
        return
    if isinstance(outcome, Skipped):
        return
    assert (outcome.forward, outcome.status) == (expect.forward, expect.status), outcome
    for name in ("endpoint", "code", "body", "rule", "policy", "path", "authority"):
        wanted, seen = getattr(expect, name), getattr(outcome, name)
        if wanted is not None and seen is not None:
            assert seen == wanted, f"{name} is {seen!r}"
    for headers, wanted in ((outcome.sent, expect.sent), (outcome.reply, expect.reply)):
        for name, values in wanted.items():
            if headers is not None:
                assert [v for n, v in headers if n == name] == values, f"header {name}"


def _read(path: Path) -> Iterator[Case]:
    seen: set[str] = set()
    for document in yaml.safe_load_all(path.read_text("utf-8")):
        unknown = set(document) - {"about", "ir", "istio", "cases"}
        assert not unknown, f"{path.name}: {unknown}"
        policy = _policy(document.get("ir"), document.get("istio"), path.name)
        for item in document["cases"]:
            made = _case(path.stem, policy, dict(item))
            assert made.id not in seen, f"{made.id} is there twice"
            seen.add(made.id)
            yield made


@cache
def _policy(ir: str | None, istio: str | None, name: str) -> Policy:
    if ir is not None:
        return parse_policy(ir)
    assert istio is not None, f"{name}: a document has neither ir nor istio"
    loaded = load_text(istio, name)
    assert loaded.policy is not None, [f"{d.span} {d.message}" for d in loaded.diagnostics]
    return loaded.policy


def _case(file: str, policy: Policy, item: dict[str, Any]) -> Case:
    name = item.pop("name")
    expect = expectation(item.pop("expect"))
    source = _source(policy, item.pop("from", None), item.pop("source", {}))
    port, destination_ip = item.pop("port", 80), item.pop("to", "")
    pick = item.pop("pick", 0)
    raw = _raw(item)
    assert not item, f"{file}: {name}: unknown {', '.join(item)}"
    return Case(
        id=f"{file}: {name}",
        policy=policy,
        request=parse_head(raw, port, source, destination_ip),
        raw=raw,
        pick=tuple(pick) if isinstance(pick, list) else (pick,),
        expect=expect,
    )


def expectation(fields: dict[str, Any]) -> Expectation:
    """As it is written in the files."""
    edits = {key: {n: _values(v) for n, v in fields.get(key, {}).items()} for key in ("sent", "reply")}
    return Expectation(**{**fields, **edits})


def _values(values: object) -> list[str]:
    if values is None:
        return []
    return [str(v) for v in values] if isinstance(values, list) else [str(values)]


def _source(policy: Policy, workload: str | None, fields: dict[str, Any]) -> Source:
    if workload is None:
        labels = tuple(fields.pop("labels", {}).items())
        return Source(labels=labels, **fields)
    found = next(w for w in policy.workloads if w.name == workload)
    return Source(
        workload=found.name,
        namespace=found.namespace,
        principal=found.principal,
        labels=found.labels,
        ip=next(iter(found.addresses), ""),
        **fields,
    )


def _raw(item: dict[str, Any]) -> bytes:
    if "raw" in item:
        return str(item.pop("raw")).encode("latin-1")
    lines = [f"{item.pop('request')} HTTP/1.1", f"Host: {item.pop('host', 'a.b')}", *item.pop("headers", [])]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape")


def parse_head(raw: bytes, port: int, source: Source, destination_ip: str) -> Request:
    """A well-formed head as a request; strictness is tested elsewhere."""
    first, *lines = raw.decode("utf-8", "surrogateescape").partition("\r\n\r\n")[0].split("\r\n")
    method, target, _ = first.split(" ")
    pairs = [line.partition(":") for line in lines]
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    return Request(
        port=port,
        method=method,
        target=target,
        authority=next((v for n, v in headers if n == "host"), ""),
        headers=tuple((n, v) for n, v in headers if n != "host"),
        source=source,
        destination_ip=destination_ip,
    )
