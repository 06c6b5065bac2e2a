"""Ugly HTTP/1.1 against the compiled code, for as long as one likes: `python -m tests.fuzz.http1 --seconds 60`.

Messages are bred from sound ones by small damage, from lists of what has fooled parsers before, and from each other.
A disagreement with the strict parser, or a crash at the page behind the message, ends the run with the bytes that
brought it about; `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

from l7fp import abi
from tests.properties.test_parse_host import SPEC
from tests.unit.templates import agreement
from tests.unit.templates.http1 import Host

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a/b.html?v=1&flag=2 HTTP/1.1\r\nHost: foo.example:8080\r\nContent-Length: 5\r\nX-User: alice\r\n\r\nhello",
    b"PUT /x?v=x HTTP/1.1\r\nhost:[::1]:80\r\nCookie: a=1; b\r\nconnection: Keep-Alive\r\nVia: 1\r\nx-gone:\r\n\r\n",
    b"GET /.well-known/a-rather-long-path-in-words HTTP/1.1\r\nHost: a.b.c\r\nUser-Agent: Mozilla/5.0 (X11; Linux "
    b"x86_64) AppleWebKit/537.36\r\nAccept: text/html,application/xml;q=0.9,*/*;q=0.8\r\nX-Present: \xe9\xff~\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: nginx\r\nConnection: close\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\nX-Gone: y\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]
PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x7f", b"\x0b", b"\xff", b"~", b":", b"/", b"//", b"/./",
    b"/..", b".", b"%", b"%2f", b"\\", b";", b"#", b"?", b"&", b"=", b"v=1", b"flag", b"@", b",", b"0", b"+", b"5",
    b"Host: b\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b" folded\r\n",
    b"Expect: 100-continue\r\n", b"X-User: bob\r\n", b"x-user: al \r\n", b"Via: a\r\n", b"HTTP/1.0", b"HTTP/1.1",
    b"GET ", b"x" * 31, b"x" * 300,
]  # fmt: skip


def breed(rng: random.Random, pool: list[bytes]) -> bytes:
    """A new message out of the pool's."""
    message = rng.choice(pool)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        at = rng.randrange(len(message) + 1)
        match rng.randrange(6):
            case 0:
                message = message[:at] + bytes([rng.randrange(256)]) + message[at + 1 :]
            case 1:
                message = message[:at] + message[at + rng.randrange(1, 4) :]
            case 2 | 3:
                message = message[:at] + rng.choice(PIECES) + message[at:]
            case 4:
                other = rng.choice(pool)
                message = message[:at] + other[rng.randrange(len(other)) :]
            case 5:
                until = at + rng.randrange(1, 40)
                message = message[:until] + message[at:]
    return message


def _check_request(host: Host, rng: random.Random, message: bytes) -> int:
    strict = agreement.request(host, message)
    if strict is None:
        return 0
    agreement.edited_request(host, message, rng.randrange(4))
    return strict.size


def _check_response(host: Host, rng: random.Random, message: bytes) -> int:
    strict = agreement.response(host, message, is_head=rng.random() < 0.2)
    if strict is None:
        return 0
    agreement.edited_response(host, message, rng.choice((0, 4, abi.NONE)))
    return strict.size


def _keep(rng: random.Random, pool: list[bytes], message: bytes) -> None:
    """Heads that both accept breed on, beside the first few that are always there."""
    if len(pool) < 500:
        pool.append(message)
    else:
        pool[rng.randrange(4, 500)] = message


def run(seconds: float, seed: int) -> Counter[str]:
    """Counts of messages by kind and outcome. Raises AssertionError on a disagreement."""
    rng, host = random.Random(seed), Host(SPEC)
    sides: list[tuple[str, list[bytes], Callable[[Host, random.Random, bytes], int]]] = [
        ("request", list(REQUESTS), _check_request),
        ("response", list(RESPONSES), _check_response),
    ]
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for kind, pool, check in sides:
            for _ in range(100):
                message = breed(rng, pool)
                size = check(host, rng, message)
                seen[f"{kind} {'accepted' if size else 'refused'}"] += 1
                if 0 < size < 1000:
                    _keep(rng, pool, message[: size + 2])
    return seen


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    for what, count in sorted(run(options.seconds, options.seed).items()):
        print(f"{count:9} {what}")


if __name__ == "__main__":
    main()
