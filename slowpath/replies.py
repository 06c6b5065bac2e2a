"""Answers of the proxy's own to what goes wrong upstream. Codes are Envoy's response-code details."""

from __future__ import annotations

from dataclasses import dataclass

from l7fp.ir.interp import reply_headers
from l7fp.ir.model import HeaderEdits
from slowpath.headers import reply
from slowpath.http1 import Headers
from slowpath.retry import Failure


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A whole answer. `code` is its stable name in the statistics."""

    status: int
    code: str
    headers: Headers = ()
    body: bytes = b""

    def render(self, *, http10: bool = False, close: bool = False, is_head: bool = False) -> bytes:
        """The message's bytes."""
        return reply(self.status, self.headers, self.body, http10=http10, close=close, is_head=is_head)

    def edited(self, edits: tuple[HeaderEdits, ...]) -> Reply:
        """With a route's response edits, which hold for answers of the proxy too."""
        if not edits:
            return self
        headers = reply_headers(self.headers, self.body.decode(), *edits)
        return Reply(self.status, self.code, headers, self.body)


def local_reply(status: int, code: str, text: str = "") -> Reply:
    """A plain text answer."""
    return Reply(status, code, (("content-type", "text/plain"),), (text or code).encode())


def before_response(cause: str) -> str:
    """The code of a failure before any byte of the response."""
    return "upstream_reset_before_response_started{" + cause + "}"


TIMEOUT = local_reply(504, "response_timeout", "upstream request timeout")
FAILURES = {
    Failure.CONNECT: local_reply(
        503, before_response("connection_failure"), "upstream connect error: connection failure"
    ),
    Failure.OVERFLOW: local_reply(503, before_response("overflow"), "upstream overflow"),
    Failure.RESET: local_reply(
        503, before_response("connection_termination"), "upstream disconnected before it answered"
    ),
    Failure.PROTOCOL: local_reply(502, before_response("protocol_error"), "upstream gave no valid response"),
    Failure.TIMEOUT: local_reply(504, "upstream_per_try_timeout", "upstream request timeout"),
}
