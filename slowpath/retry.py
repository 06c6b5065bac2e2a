"""When to try again, and after how long. Pure; the words are Envoy's retry_on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from l7fp.ir.model import RetryPolicy

BASE_MS = 25
CAP_MS = 250


class Failure(Enum):
    """Why a try gave no response."""

    CONNECT = "connection_failure"  # nothing was sent
    OVERFLOW = "overflow"  # nothing was sent
    RESET = "connection_termination"  # the connection ended before the response head
    PROTOCOL = "protocol_error"  # what came is not an acceptable response
    TIMEOUT = "per_try_timeout"


@dataclass(frozen=True, slots=True)
class Retries:
    """A `RetryPolicy` ready to be asked. Words for gRPC, HTTP/2 and HTTP/3 never apply here."""

    attempts: int
    words: frozenset[str]
    codes: frozenset[int]
    per_try_timeout_ms: int | None

    @classmethod
    def of(cls, policy: RetryPolicy | None) -> Retries | None:
        """None where nothing is ever retried."""
        if policy is None or policy.attempts <= 0:
            return None
        return cls(policy.attempts, frozenset(policy.on), frozenset(policy.status_codes), policy.per_try_timeout_ms)

    def on_status(self, status: int) -> bool:
        """Whether a response with this status is to be thrown away for another try."""
        words = self.words
        if status >= 500 and ("5xx" in words or (status in (502, 503, 504) and "gateway-error" in words)):
            return True
        if status == 409 and "retriable-4xx" in words:
            return True
        return status in self.codes and "retriable-status-codes" in words

    def on_failure(self, failure: Failure) -> bool:
        """Whether a try without response is to be repeated. `gateway-error` counts it as a 503 or 504."""
        words = self.words
        if "5xx" in words or "gateway-error" in words:
            return True
        match failure:
            case Failure.CONNECT:
                return "connect-failure" in words or "reset" in words or "reset-before-request" in words
            case Failure.OVERFLOW:
                return False
            case Failure.RESET | Failure.PROTOCOL | Failure.TIMEOUT:
                return "reset" in words


def backoff_ms(retry: int, rand: random.Random) -> float:
    """Full-jitter exponential back-off before retry number `retry` (from 1)."""
    return rand.uniform(0, min(CAP_MS, BASE_MS * ((1 << min(retry, 16)) - 1)))


class Replay:
    """The bytes of a request body that were read so far, until they are more than `bound`: then `whole` is
    False, and what was kept is forgotten as soon as it has been sent once."""

    __slots__ = ("_bound", "_pieces", "_size", "whole")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole = True

    @property
    def full(self) -> bool:
        """Whether more than the bound is held."""
        return self._size > self._bound

    def add(self, data: bytes, *, sent: bool) -> None:
        """Bytes that came, and whether they are on their way already."""
        if self.whole:
            self._pieces.append(data)
            self._size += len(data)
            if sent and self.full:
                self.forget()

    def take(self) -> bytes:
        """All that has to be sent to a new connection."""
        data = b"".join(self._pieces)
        if self.full:
            self.forget()
        return data

    def forget(self) -> None:
        """There will be no other try."""
        self.whole = False
        self._pieces.clear()
        self._size = 0
