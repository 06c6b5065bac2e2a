"""What a route or redirect makes of path and authority."""

from __future__ import annotations

import re
from collections.abc import Callable

from l7fp.ir.hosts import split_port
from l7fp.ir.matching import lower, re2_compile
from l7fp.ir.model import DirectResponse, FieldKind, Match, PathRewrite, Redirect, RewriteKind, StringKind, StringMatch
from l7fp.ir.request import Request

PathChange = Callable[[str], str]
"""Old path to new path, both without the query."""

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def matched_prefix(match: Match | None, path: str) -> str:
    """What of `path` a PREFIX rewrite replaces: the text that the match's path matcher matched; the whole
    path for other matchers than PREFIX; `/` where the match does not look at the path."""
    for condition in match.conditions if match is not None else ():
        if condition.field.kind is not FieldKind.PATH or condition.negate:
            continue
        for matcher in condition.any_of:
            if isinstance(matcher, StringMatch) and matcher.kind is StringKind.PREFIX:
                length = len(matcher.value)
                head = path[:length]
                if head == matcher.value or (matcher.ignore_case and lower(head) == lower(matcher.value)):
                    return head
            elif isinstance(matcher, StringMatch) and matcher.kind is StringKind.PRESENT:
                return "/"
        return path
    return "/"


def compile_rewrite(rewrite: PathRewrite, match: Match | None) -> PathChange:
    """The change that `rewrite` makes for requests that `match` matched. Raises as `matching.compile_string`."""
    value = rewrite.value
    match rewrite.kind:
        case RewriteKind.FULL:
            return lambda path: value
        case RewriteKind.PREFIX:
            return lambda path: value + path[len(matched_prefix(match, path)) :]
        case RewriteKind.REGEX:
            pattern = re2_compile(rewrite.regex)
            substitution = value.encode("utf-8", "surrogateescape")

            def change(path: str) -> str:
                data: bytes = pattern.sub(substitution, path.encode("utf-8", "surrogateescape"))
                return data.decode("utf-8", "surrogateescape")

            return change


def location(redirect: Redirect, match: Match | None, request: Request) -> str:
    """The Location of a redirect, put together as Envoy does.

    The query is kept unless `path` brings its own. Without `authority` the request's is used: without
    its port when `port` is given, and without the old scheme's default port when the scheme changes.
    """
    path, query = request.path, request.query
    if redirect.path is not None:
        path = redirect.path
        query = "" if "?" in path else query
    elif redirect.prefix_rewrite is not None:
        path = redirect.prefix_rewrite + path[len(matched_prefix(match, path)) :]
    scheme = redirect.scheme or request.scheme
    port = "" if redirect.port is None else f":{redirect.port}"
    host = redirect.authority or _request_host(request, scheme, port)
    return f"{scheme}://{host}{port}{path}{query}"


def own_location(response: DirectResponse, request: Request) -> str | None:
    """Envoy gives a direct response of status 201 or 3xx the request's own URL as Location."""
    if response.status == 201 or 300 <= response.status < 400:
        return f"{request.scheme}://{request.authority}{request.target}"
    return None


def _request_host(request: Request, scheme: str, port: str) -> str:
    host, own_port = split_port(request.authority)
    if port or (scheme != request.scheme and own_port == _DEFAULT_PORTS.get(request.scheme)):
        return host
    return request.authority


_BACK_REFERENCE = re.compile(r"\\(.)", re.DOTALL)


def substitution_groups(substitution: str) -> int:
    """The highest group that an RE2 substitution refers to. Raises ValueError for a stray backslash."""
    highest = 0
    for found in _BACK_REFERENCE.finditer(substitution):
        if found[1].isdigit():
            highest = max(highest, int(found[1]))
        elif found[1] != "\\":
            raise ValueError(f"\\{found[1]} is no group of an RE2 substitution")
    return highest
