"""One request and its response: from the plan, over one or more tries, to the last byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from slowpath.balance import Host
from slowpath.body import LAST_CHUNK, chunk
from slowpath.download import Download
from slowpath.headers import response_head
from slowpath.http1 import IDEMPOTENT, Framing, ResponseHead
from slowpath.replies import FAILURES, TIMEOUT, Reply, local_reply
from slowpath.retry import Failure, Replay, backoff_ms
from slowpath.router import Choice, Prepared, Verdict
from slowpath.tunnel import Tunnel
from slowpath.upstream import UpstreamConnection

if TYPE_CHECKING:
    from slowpath.client import ClientConnection

_NEVER = float("inf")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """`consumed` counts the request's bytes on the client's connection so far. `request_done`: all of it
    has come. The client connection feeds the body by `request_data` and learns of the end by
    `exchange_done`. It is a `pool.Waiter`, an `upstream.Sink` and a `deadlines.Timed`."""

    __slots__ = (
        "_attempts",
        "_body",
        "_choice",
        "_client",
        "_close",
        "_continued",
        "_download",
        "_fresh",
        "_host",
        "_mode",
        "_over",
        "_prepared",
        "_route_deadline",
        "_started",
        "_timer",
        "_tried",
        "_up",
        "_verdict",
        "consumed",
        "deadline",
        "drained",
        "request_done",
    )

    def __init__(self, client: ClientConnection, prepared: Prepared, consumed: int) -> None:
        self._client = client
        self._prepared = prepared
        self.consumed = consumed
        head = prepared.head
        self.request_done = head.framing is Framing.NONE or (head.framing is Framing.LENGTH and not head.length)
        self.deadline = _NEVER
        self.drained = 0
        self._route_deadline = _NEVER
        self._attempts = 0
        self._choice: Choice | None = None
        self._body = None if self.request_done else Replay(client.server.options.max_replay_body)
        self._close = False
        self._continued = not head.expect_continue
        self._fresh = False
        self._host: Host | None = None
        self._mode = Framing.NONE
        self._over = False  # the response is complete, or nobody waits for it any more
        self._download: Download | None = None
        self._started = False  # response bytes were sent to the client
        self._timer: asyncio.TimerHandle | None = None
        self._tried: list[Host] = []
        self._up: UpstreamConnection | None = None
        self._verdict: Verdict = cast(Verdict, None)

    # --- towards the server ---------------------------------------------------------------------

    def start(self) -> None:
        """Carry out the plan."""
        plan = self._prepared.plan
        stats = self._client.server.stats
        stats.requests_active += 1
        if plan.rule is not None:
            stats.rules[plan.rule.name] += 1
        if plan.reply is not None:
            self._reply(plan.reply)
            return
        if plan.timeout_ms is not None and self.request_done:
            self._start_clock(plan.timeout_ms)
        self._choice = plan.choose(self._client.server.rand)
        self._try()

    def _start_clock(self, timeout_ms: int) -> None:
        if timeout_ms > 0:
            self._route_deadline = self._client.server.loop.time() + timeout_ms / 1000
            self.deadline = min(self.deadline, self._route_deadline)
            self._client.server.deadlines.watch(self)

    def _try(self) -> None:
        choice = self._choice
        if choice is None:
            return
        balancer = choice.balancer
        host = balancer.pick(self._tried) if balancer is not None else None
        self._verdict = verdict = choice.verdict(host)
        if verdict.reply is not None or host is None or balancer is None:
            self._reply(verdict.reply or FAILURES[Failure.CONNECT])
            return
        self._host = host
        retries = self._prepared.plan.retries
        if retries is not None and retries.per_try_timeout_ms:
            limit = self._client.server.loop.time() + retries.per_try_timeout_ms / 1000
            self.deadline = min(limit, self._route_deadline)
            self._client.server.deadlines.watch(self)
        host.pool.acquire(
            self,
            connect_timeout_ms=balancer.cluster.connect_timeout_ms,
            fresh=self._fresh,
            careful=self._prepared.head.method not in IDEMPOTENT,
        )

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        self._up = connection
        head = self._prepared.head
        connection.expect(self, is_head=head.method == "HEAD", tunnel=bool(head.upgrade))
        data, wants_id = self._prepared.upstream_head(self._verdict)
        client = self._client
        data += client.server.request_ids.next() + b"\r\n\r\n" if wants_id else b"\r\n"
        if not self._continued:
            self._continued = True
            client.send(CONTINUE)
        if self._body is not None:
            data += self._body.take()
        connection.transport.write(data)
        client.resume(client.HOLD_UNSENT)
        if connection.write_paused:
            client.hold(client.HOLD_UPSTREAM)

    @property
    def _replayable(self) -> bool:
        return self._body is None or self._body.whole

    def upstream_unavailable(self, failure: Failure) -> None:
        self._client.server.stats.upstream_failures[failure.value] += 1
        host, choice = self._host, self._choice
        if host is not None:
            self._tried.append(host)
        balancer = choice.balancer if choice is not None else None
        if failure is Failure.CONNECT and balancer is not None and len(self._tried) < len(balancer):
            # Nothing was sent: any other endpoint will do, whatever the retry policy says.
            self._try()
            return
        self._failed(failure)

    def request_data(self, data: bytes, done: bool) -> None:
        """The next piece of the request's body; `done` with the last one, which may be empty."""
        self.request_done = done
        if self._over:
            self.drained += len(data)
            if done:
                self._end()
            return
        plan = self._prepared.plan
        if done and plan.timeout_ms is not None:
            self._start_clock(plan.timeout_ms)
        if self._prepared.head.framing is Framing.CHUNKED:
            data = (chunk(data) if data else b"") + (LAST_CHUNK if done else b"")
        if not data:
            return
        up = self._up
        if up is not None:
            up.transport.write(data)
        if self._body is not None:
            self._body.add(data, sent=up is not None)
            if self._body.full:
                self._client.hold(self._client.HOLD_UNSENT)

    def upload_failed(self) -> None:
        """The server takes no more of the body. What it says, or its end, is about to be heard; the request
        cannot be completed any more."""
        self._close = True

    def request_broken(self, status: int, code: str) -> None:
        """The request's body is malformed: nothing more of this connection can be believed."""
        if self._started or self._over:
            self._client.abort()
        else:
            self._close = True
            self._reply(local_reply(status, code))

    @property
    def answered(self) -> bool:
        """Whether the whole answer was written."""
        return self._over

    @property
    def started(self) -> bool:
        """Whether bytes of the server's answer were written."""
        return self._started

    @property
    def upstream_for_splice(self) -> UpstreamConnection | None:
        """The server's connection, if a large body may go there behind the transports' backs."""
        up = self._up
        if up is None or self._replayable or self._over or self._prepared.head.framing is not Framing.LENGTH:
            return None
        return None if up.write_paused or up.transport.get_write_buffer_size() else up

    def upstream_writable(self, writable: bool) -> None:
        if writable:
            self._client.resume(self._client.HOLD_UPSTREAM)
        else:
            self._client.hold(self._client.HOLD_UPSTREAM)

    # --- tries that fail ------------------------------------------------------------------------

    def upstream_failed(self, failure: Failure) -> None:
        up, self._up = self._up, None
        host = self._host
        self._client.server.stats.upstream_failures[failure.value] += 1
        if host is not None:
            host.pool.lost()
            self._tried.append(host)
        if self._started:
            self._over = True
            self._finished("upstream_reset_after_response_started{" + failure.value + "}")
            self._client.abort()
            return
        if (
            failure is Failure.RESET
            and up is not None
            and up.reused
            and self._replayable
            and not self._fresh
            and self._prepared.head.method in IDEMPOTENT
        ):
            # The server closed an idle connection while the request was on its way (RFC 9112 §9.3.1).
            self._fresh = True
            self._tried.pop()
            self._client.server.stats.retries += 1
            self._try()
            return
        self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        retries = self._prepared.plan.retries
        if retries is None or not retries.on_failure(failure) or not self._again():
            self._reply(FAILURES[failure].edited(self._verdict.decision.response_edits))

    def _again(self) -> bool:
        """Another try after the back-off, if there is one left and the request can be sent again."""
        retries = self._prepared.plan.retries
        if retries is None or self._attempts >= retries.attempts or not self._replayable:
            return False
        self._attempts += 1
        server = self._client.server
        server.stats.retries += 1
        self.deadline = self._route_deadline
        self._timer = server.loop.call_later(backoff_ms(self._attempts, server.rand) / 1000, self._retry)
        return True

    def _retry(self) -> None:
        self._timer = None
        if not self._over:
            self._try()

    def expired(self, now: float) -> None:
        """A deadline has passed."""
        if self._over:
            return
        self._give_up()
        if self._started:
            self._over = True
            self._finished("response_timeout")
            self._client.abort()
        elif now < self._route_deadline:
            self._client.server.stats.upstream_failures[Failure.TIMEOUT.value] += 1
            if self._route_deadline is not _NEVER:
                self.deadline = self._route_deadline
                self._client.server.deadlines.watch(self)
            self._failed(Failure.TIMEOUT)
        else:
            self._reply(TIMEOUT.edited(self._verdict.decision.response_edits))

    def _give_up(self) -> None:
        """Let go of the server, whatever state the try is in."""
        up, self._up = self._up, None
        if self._download is not None:
            self._download.cancel()
            self._download = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        host = self._host
        if host is None:
            return
        if up is not None:
            up.close()
            host.pool.lost()
            self._tried.append(host)
        else:
            host.pool.cancel(self)

    # --- towards the client ---------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        head = self._prepared.head
        client = self._client
        # Without 100 (Continue) a client may or may not send the body: what follows is ambiguous.
        self._close = self._close or not head.keep_alive or not self._continued or client.closing
        data = reply.render(http10=head.http10, close=self._close, is_head=head.method == "HEAD")
        self._over = True
        self._give_up()
        client.server.stats.statuses[reply.status // 100] += 1
        self._finished(reply.code)
        self._last(data)

    def informational(self, head: ResponseHead) -> None:
        # 100 was answered by the proxy itself.
        if head.status != 100 and not self._prepared.head.http10:
            self._client.send(response_head(head, Framing.NONE, (), http10=False, close=False))

    def response_head(self, head: ResponseHead, framing: Framing, data: bytes, done: bool) -> None:
        request = self._prepared.head
        retries = self._prepared.plan.retries
        if retries is not None and retries.on_status(head.status):
            up, host = self._up, self._host
            if self._again() and up is not None and host is not None:
                self._up = None
                self._tried.append(host)
                if done and self.request_done and up.finish():
                    host.pool.release(up)
                else:
                    up.close()
                    host.pool.lost()
                return
        client = self._client
        self._started = True
        self.deadline = self._route_deadline  # a try's own limit ends where its answer begins
        if self._body is not None:
            self._body.forget()
        mode = framing
        close = self._close or not request.keep_alive or client.closing or not self._continued
        if framing in (Framing.CHUNKED, Framing.EOF):
            mode = Framing.EOF if request.http10 else Framing.CHUNKED
            close = close or request.http10
        self._mode = mode
        self._close = close
        client.server.stats.statuses[head.status // 100] += 1
        out = self._verdict.response(head, framing, http10=request.http10, close=close)
        if mode is Framing.CHUNKED:
            if data:
                out += chunk(data)
            if done:
                out += LAST_CHUNK
        elif data:
            out += data
        if done:
            self._complete(out)
        else:
            client.send(out)
            up = self._up
            if up is not None and framing is Framing.LENGTH and up.left >= client.server.options.splice_at_least:
                self._download = Download(client, up, before_last=self._before_last, on_done=self._downloaded)

    def response_data(self, data: bytes, done: bool) -> None:
        if self._mode is Framing.CHUNKED:
            if data:
                data = chunk(data)
            if done:
                data += LAST_CHUNK
        if done:
            self._complete(data)
        elif data:
            self._client.touch()
            self._client.send(data)

    def _complete(self, data: bytes) -> None:
        """The response is over; `data` are its last bytes."""
        self._over = True
        up, host = self._up, self._host
        self._up = None
        if up is not None and host is not None:
            if self.request_done and up.finish():
                host.pool.release(up)
            else:
                up.close()
                host.pool.lost()
        self._finished("via_upstream")
        self._last(data)

    def _finished(self, code: str) -> None:
        server = self._client.server
        server.stats.requests_active -= 1
        server.stats.outcomes[code] += 1
        if self.deadline is not _NEVER:
            server.deadlines.forget(self)

    def _last(self, data: bytes) -> None:
        client = self._client
        if not self.request_done:
            # Answered early. The rest of the request must not be taken for the next one.
            client.resume(client.HOLD_UNSENT | client.HOLD_UPSTREAM)
            client.send(data)
            if self._close or client.splicing:
                client.exchange_done(close=True)
            return
        if not self._close and not client.ending:
            client.ledger.promise(len(data))
            client.ledger.settle(self.consumed)
            client.write(data)
        else:
            client.send(data)
        client.exchange_done(close=self._close)

    def _end(self) -> None:
        """An early answer's request has come to its end."""
        if not self._close:
            self._client.ledger.settle(self.consumed)
        self._client.exchange_done(close=self._close)

    def _before_last(self) -> None:
        if self.request_done and not self._close and not self._client.ending:
            self._client.ledger.settle(self.consumed)
            self.consumed = 0

    def _downloaded(self, ok: bool) -> None:
        self._download = None
        up = self._up
        if ok:
            self._complete(b"")
        elif up is not None:
            up.close()
            self.upstream_failed(Failure.RESET)

    def client_writable(self, writable: bool) -> None:
        """The client takes more, or should be left alone for a while."""
        up = self._up
        if up is None or self._download is not None or up.transport.is_closing():
            return
        if writable:
            up.transport.resume_reading()
        else:
            up.transport.pause_reading()

    def client_gone(self) -> None:
        """Nobody waits for the response any more."""
        if self._over:
            return
        self._over = True
        self._give_up()
        self._finished("downstream_remote_disconnect")

    def switched(self, head: ResponseHead, data: bytes) -> None:
        up, client = self._up, self._client
        if up is None:
            return
        if head.upgrade != self._prepared.head.upgrade:
            up.close()
            self.upstream_failed(Failure.PROTOCOL)
            return
        self._over = True
        self._up = None
        stats = client.server.stats
        stats.tunnels += 1
        stats.statuses[1] += 1
        edits = self._verdict.decision.response_edits
        client.send(response_head(head, Framing.NONE, edits, http10=False, close=False) + data)
        client.server.deadlines.forget(self)
        client.tunnel_open(Tunnel(client, up, self._tunnel_ended))

    def _tunnel_ended(self) -> None:
        self._client.server.stats.tunnels -= 1
        self._finished("via_upstream")
        if self._host is not None:
            self._host.pool.lost()

    def tunnel_data(self, data: bytes) -> None:
        """Never called: `Tunnel` takes over. Nor is the next."""

    def tunnel_eof(self) -> None: ...
