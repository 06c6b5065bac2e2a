"""Cases by the thousand: requests made of what the corpus's policies talk about; the interpreter says what to expect.

Paths, headers and queries are those that the policies match, mangled; a seed makes the same cases everywhere.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from l7fp.ir.model import Condition, FieldKind, Policy, StringKind, StringMatch, VirtualHost
from tests.conformance.corpus import Case, Expectation, parse_head
from tests.conformance.interpreter import InterpreterExecutor
from tests.conformance.transform import transform

_PIECES = (
    *("/", "//", "/.", "/..", "/../", "/./", "%2e", "%2E%2e", "%2f", "%5c", "\\", ";", "..;x", "/..;/", "a", "B", "x"),
    *(
        "%41",
        "%61",
        "%zz",
        "%",
        "%2",
        "%25",
        "%252e",
        "~",
        "%7e",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        "+",
        ",",
        "=",
        ":",
        "@",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "|",
        "^",
        '"',
        "<",
        ">",
        "`",
        ".js",
        "1",
        "-",
        "_",
        "...",
        "%3b",
        "%3f",
        "%23",
        "%7f",
        "%c3%a9",
    ),
)
_METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "PATCH")


@dataclass(slots=True)
class _Words:
    """What a policy talks about."""

    paths: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    headers: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    queries: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, node: object) -> object:
        """For `transform`."""
        match node:
            case VirtualHost():
                self.hosts += (domain.replace("*", "w") for domain in node.domains)
            case Condition():
                values = [m for m in node.any_of if isinstance(m, StringMatch) and m.kind is not StringKind.REGEX]
                texts = [m.value.replace("{**}", "y/z").replace("{*}", "x") for m in values]
                match node.field.kind:
                    case FieldKind.PATH:
                        self.paths += (text if text.startswith("/") else f"/x{text}" for text in texts)
                    case FieldKind.HEADER:
                        self.headers[node.field.name] += texts
                    case FieldKind.QUERY:
                        self.queries[node.field.name] += texts
        return node


def variants(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """`count` cases under the policies and from the clients of these, in the order of their policies."""
    rng = random.Random(seed)
    words: dict[Policy, _Words] = {}
    for case in cases:
        if case.policy not in words:
            transform(case.policy, (found := _Words()).take)
            words[case.policy] = found
    places = {policy: n for n, policy in enumerate(words)}
    clients = [case for case in cases if not case.request.source.conflict]
    chosen = sorted(rng.choices(clients, k=count), key=lambda case: places[case.policy])
    return [_variant(rng, number, case, words[case.policy]) for number, case in enumerate(chosen)]


def _variant(rng: random.Random, number: int, case: Case, words: _Words) -> Case:
    lines = [f"{rng.choice(_METHODS)} {_path(rng, words)}{_query(rng, words)} HTTP/1.1", f"Host: {_host(rng, words)}"]
    for name, values in words.headers.items():
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            value = rng.choice([*values, "x", ""])
            lines.append(
                f"{rng.choice((name, name.title()))}: {rng.choice((value, value, value + 'z', value.upper()))}"
            )
    raw = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
    old = case.request
    made = replace(
        case,
        id=f"variant {number}",
        raw=raw,
        request=parse_head(raw, old.port, old.source, old.destination_ip),
        pick=(0,),
    )
    told = InterpreterExecutor().run(made)
    location = [value for name, value in told.reply or () if name == "location"]
    expect = Expectation(
        forward=told.forward,
        status=told.status,
        endpoint=told.endpoint or None,
        rule=told.rule,
        path=told.path,
        authority=told.authority,
        body=None if told.status in (None, 400) else told.body,
        reply={} if told.forward else {"location": location},
    )
    return replace(made, expect=expect)


def _path(rng: random.Random, words: _Words) -> str:
    path = rng.choice(words.paths or ["/"])
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        at, piece = rng.randrange(1, len(path) + 1), rng.choice(_PIECES)
        escaped = "".join(f"%{ord(c):02x}" if c.isalnum() and rng.random() < 0.2 else c for c in path)
        path = rng.choice((path[:at] + piece + path[at:], path + piece, f"/{piece}{path}", path[:at], escaped))
    return path


def _query(rng: random.Random, words: _Words) -> str:
    if rng.random() < 0.5:
        return ""
    parts = []
    for _ in range(rng.randrange(3)):
        name = rng.choice(list(words.queries) or ["k"])
        value = rng.choice([*words.queries.get(name, ()), "", "x", "%31"])
        parts.append(rng.choice((name, f"{name}={value}", f"{name}={value}", f"{name.upper()}={value}")))
    return "?" + "&".join(parts)


def _host(rng: random.Random, words: _Words) -> str:
    host = rng.choice([*words.hosts, *words.hosts, "b", "w.w.b", "q.z"])
    if host.startswith("["):
        return host
    return rng.choice((host, host, host, host.upper(), host if ":" in host else f"{host}:80", f"z{host}"))
