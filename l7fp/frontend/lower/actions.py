"""What a VirtualService route does: IR actions."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from l7fp.frontend.lower import edits
from l7fp.frontend.lower.clusters import Clusters
from l7fp.frontend.lower.context import Context, Protocol, ServiceInfo, fqdn
from l7fp.frontend.schema import At, did_you_mean
from l7fp.frontend.virtual_service import DirectResponse, HttpRoute, Redirect, Retries, Rewrite, WeightedDestination
from l7fp.frontend.wire import MAX_BODY_BYTES, compile_regex
from l7fp.ir import model
from l7fp.ir.model import PathRewrite, RetryPolicy, RewriteKind, Route

RETRY_ON = ("cancelled", "connect-failure", "refused-stream", "retriable-status-codes", "unavailable")
DEFAULT_RETRY = RetryPolicy(attempts=2, on=RETRY_ON)
"""Istio's default, also where a VirtualService says nothing."""


@dataclass(frozen=True, slots=True)
class Actions:
    """Lowers the actions of routes of one namespace for requests to one port."""

    context: Context
    clusters: Clusters
    namespace: str
    port: int

    def lower(self, route: HttpRoute, *, prefix_matched: bool) -> model.Action | None:
        """The action, or None after a finding. `prefix_matched`: some match of the rule is by path prefix."""
        response = edits.response_edits(route.headers)
        if route.redirect is not None:
            self._no_effect(route)
            return self._redirect(route.redirect, response)
        if route.direct_response is not None:
            self._no_effect(route)
            return self._direct(route.direct_response, response)
        destinations = self._destinations(route)
        if destinations is None:
            return None
        made = Route(
            destinations=destinations,
            path_rewrite=self._rewrite(route.rewrite, prefix_matched),
            authority_rewrite=self._authority(route),
            timeout_ms=None if route.timeout is None or not route.timeout.value else route.timeout.value,
            retry=retry_policy(route.retries),
            request_headers=edits.request_edits(route.headers),
            response_headers=response,
        )
        if len(route.route) == 1:  # Istio writes the edits of a lone destination on the route itself
            only = made.destinations[0]
            made = Route(
                destinations=(model.Destination(cluster=only.cluster, weight=1, span=only.span),),
                path_rewrite=made.path_rewrite,
                authority_rewrite=made.authority_rewrite,
                timeout_ms=made.timeout_ms,
                retry=made.retry,
                request_headers=edits.compose(made.request_headers, only.request_headers),
                response_headers=edits.compose(made.response_headers, only.response_headers),
            )
        return made

    def _destinations(self, route: HttpRoute) -> tuple[model.Destination, ...] | None:
        made: list[model.Destination] = []
        usable = True
        for item in route.route:
            cluster = self._cluster(item)
            weight = 0 if item.weight is None else item.weight.value
            if cluster is None:
                usable = False
            elif weight or len(route.route) == 1:
                made.append(
                    model.Destination(
                        cluster=cluster,
                        weight=weight or 1,
                        request_headers=edits.request_edits(item.headers),
                        response_headers=edits.response_edits(item.headers),
                        span=item.span,
                    )
                )
            else:
                message = "a destination without weight gets no requests when there are several"
                self.context.sink.warning("L7FP504", item.span, message, "give it a weight, or remove it")
        return tuple(made) if usable and made else None

    def _cluster(self, item: WeightedDestination) -> str | None:
        destination = item.destination
        host = fqdn(destination.host.value, self.namespace)
        service = self.context.services.get(host)
        sink = self.context.sink
        if service is None:
            names = [*self.context.services, *(s.name for s in self.context.services.values())]
            guess = did_you_mean(destination.host.value, names) or did_you_mean(host, names)
            hint = guess or "add the Service or ServiceEntry; a name without dots means one of this namespace"
            sink.error("L7FP301", destination.host.span, f"no service {host} is in the input", hint)
            return None
        if not service.static:
            hint = "list its endpoints by IP address with resolution: STATIC"
            sink.error("L7FP314", destination.host.span, f"{host} has no static endpoints to route to", hint)
            return None
        port = self._destination_port(service, None if destination.port is None else destination.port.number)
        if port is None:
            span = destination.host.span if destination.port is None else destination.port.number.span
            listed = ", ".join(str(p.number) for p in service.ports) or "none"
            what = self.port if destination.port is None else destination.port.number.value
            message = f"{host} has no port {what}"
            sink.error("L7FP303", span, message, f"set destination.port.number; its ports: {listed}")
            return None
        declared = service.port(port)
        if declared is not None and declared.protocol is not Protocol.HTTP:
            message = f"port {port} of {host} carries {declared.text or 'something else'}; it is sent HTTP/1.1"
            sink.warning("L7FP413", destination.span, message, "route to a port that carries HTTP")
        return self.clusters.get(service, port, destination.subset)

    def _destination_port(self, service: ServiceInfo, named: At[int] | None) -> int | None:
        if named is not None:
            return named.value if service.port(named.value) is not None else None
        if len(service.ports) == 1:
            return service.ports[0].number
        return self.port if service.port(self.port) is not None else None

    def _rewrite(self, rewrite: Rewrite | None, prefix_matched: bool) -> PathRewrite | None:
        if rewrite is None:
            return None
        if rewrite.uri is not None:
            # Envoy's prefix_rewrite replaces the whole path where the match was exact or by regex.
            return PathRewrite(kind=RewriteKind.PREFIX if prefix_matched else RewriteKind.FULL, value=rewrite.uri.value)
        if rewrite.uri_regex_rewrite is not None:
            pattern, text = rewrite.uri_regex_rewrite.match, rewrite.uri_regex_rewrite.rewrite
            bad = _substitution_problem(pattern.value, text.value)
            if bad:
                hint = "write \\1 to \\9 for groups and \\\\ for a backslash"
                self.context.sink.error("L7FP204", text.span, bad, hint)
                return None
            return PathRewrite(kind=RewriteKind.REGEX, value=text.value, regex=pattern.value)
        return None

    def _authority(self, route: HttpRoute) -> str | None:
        """Destination's host edit over the route's over rewrite.authority, as istiod has it."""
        rewritten = None if route.rewrite is None or route.rewrite.authority is None else route.rewrite.authority.value
        base = edits.authority(route.headers) or rewritten
        chosen = {edits.authority(item.headers) or base for item in route.route if item.weight or len(route.route) == 1}
        if len(chosen) > 1:
            message = "the destinations set different hosts, which isn't offered"
            self.context.sink.error("L7FP404", route.span, message, "set one host for all, or split the route by match")
        return next(iter(chosen), base)

    def _redirect(self, redirect: Redirect, response: model.HeaderEdits) -> model.Redirect:
        derived = redirect.derive_port is not None and redirect.derive_port.value == "FROM_REQUEST_PORT"
        port = redirect.port.value if redirect.port is not None else self.port if derived else None
        return model.Redirect(
            status=301 if redirect.redirect_code is None else redirect.redirect_code.value,
            scheme=_text(redirect.scheme),
            authority=_text(redirect.authority),
            port=port,
            path=_text(redirect.uri),
            prefix_rewrite=_text(redirect.prefix_rewrite),
            response_headers=response,
        )

    def _direct(self, direct: DirectResponse, response: model.HeaderEdits) -> model.DirectResponse:
        body = ""
        if direct.body is not None and direct.body.string is not None:
            body = direct.body.string.value
        elif direct.body is not None and direct.body.bytes is not None:
            try:
                data = base64.b64decode(direct.body.bytes.value, validate=True)
                body = data.decode("utf-8", "surrogateescape")
            except (binascii.Error, ValueError):
                message = "body.bytes is not base64"
                self.context.sink.error("L7FP204", direct.body.bytes.span, message, "use body.string for text")
        size = len(body.encode("utf-8", "surrogateescape"))
        if direct.body is not None and size > MAX_BODY_BYTES:
            message = f"a body of {size:,} bytes"
            self.context.sink.error("L7FP204", direct.body.span, message, f"at most {MAX_BODY_BYTES:,} bytes")
        if direct.body is not None and body and direct.status.value in (204, 304):
            message = f"a response with status {direct.status.value} has no body (RFC 9110 §6.4.1)"
            self.context.sink.warning("L7FP503", direct.body.span, message, "remove the body")
            body = ""
        return model.DirectResponse(status=direct.status.value, body=body, response_headers=response)

    def _no_effect(self, route: HttpRoute) -> None:
        warn: Callable[[str, str], None] = lambda what, why: self.context.sink.warning(  # noqa: E731
            "L7FP503", route.span, f"{what} has no effect on a reply made on the spot", why
        )
        if edits.request_edits(route.headers) or edits.authority(route.headers):
            warn("headers.request", "remove it")
        if route.timeout is not None:
            warn("timeout", "remove it")
        if route.retries is not None:
            warn("retries", "remove it")


def retry_policy(retries: Retries | None) -> RetryPolicy | None:
    """Istio's default where nothing is said; no retries for attempts 0."""
    if retries is None:
        return DEFAULT_RETRY
    if retries.attempts is None or not retries.attempts.value:
        return None
    words: set[str] = set(RETRY_ON)
    codes: set[int] = set()
    if retries.retry_on is not None:
        parts = [part.strip() for part in retries.retry_on.value.split(",")]
        codes = {int(part) for part in parts if part.isdigit()}
        words = {part for part in parts if not part.isdigit()}
        if codes:
            words.add("retriable-status-codes")
    timeout = None if retries.per_try_timeout is None else retries.per_try_timeout.value
    return RetryPolicy(
        attempts=retries.attempts.value,
        on=tuple(sorted(words)),
        status_codes=tuple(sorted(codes)),
        per_try_timeout_ms=timeout,
    )


def _substitution_problem(pattern: str, text: str) -> str:
    if any(not 0x21 <= ord(c) <= 0x7E for c in text):
        return "the substitution holds a space, control or non-ASCII character"
    groups = compile_regex(pattern).groups
    for escape in re.finditer(r"\\(.?)", text):
        if not (escape[1] == "\\" or (escape[1].isdigit() and int(escape[1]) <= groups)):
            return f"`{escape[0]}` names no group of the pattern, which has {groups}"
    return ""


def _text(value: At[str] | None) -> str | None:
    return None if value is None else value.value
