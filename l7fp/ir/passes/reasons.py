"""Why something is left to the slow path: the catalogue of codes with their messages and hints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from l7fp.source import Span


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason with its place. `code` is a key of `REASONS` and never changes its meaning."""

    code: str
    span: Span
    message: str
    hint: str


REASONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "field": ("the kernel can't read {field}", "would be kernel without the condition on {field}"),
        "regex": (
            "{field} is matched by the regular expression {value!r}",
            "would be kernel if written as exact, prefix or suffix matches, or for paths as a template with {{*}}",
        ),
        "matcher": (
            "the kernel does not match {field} by {kind}",
            "would be kernel with an exact or a prefix match",
        ),
        "matchers": (
            "more than {limit} different values of {field} {name} are matched",
            "would be kernel if the rules before it used fewer different values",
        ),
        "named-fields": (
            "more than {limit} different headers and query parameters are matched; {name} is one too many",
            "would be kernel if the rules before it looked at fewer headers",
        ),
        "least-request": (
            "cluster {cluster} balances by least_request",
            "would be kernel with ROUND_ROBIN or RANDOM",
        ),
        "endpoint-name": (
            "endpoint {address} of cluster {cluster} is a name, not an address",
            "would be kernel with static addresses",
        ),
        "endpoint-weights": (
            "the endpoints of cluster {cluster} have very uneven weights",
            "would be kernel with equal or small weights",
        ),
        "unknown-cluster": ("cluster {cluster} is not known", "define the host or subset it is made of"),
        "no-destination": ("no destination has a weight", "would be kernel with a weight above 0"),
        "weights": ("the weights add up to more than {limit}", "would be kernel with smaller weights"),
        "mixed-authorization": (
            "the endpoints of cluster {cluster} are guarded by different authorization policies",
            "would be kernel if the same policies selected all of them",
        ),
        "mixed-ports": (
            "the endpoints of cluster {cluster} listen on different ports and a policy looks at the port",
            "would be kernel if all of them had one port",
        ),
        "regex-rewrite": (
            "the path is rewritten by a regular expression",
            "would be kernel with a prefix or full rewrite",
        ),
        "rewrite-prefix": (
            "a prefix is rewritten where the match does not say which prefix",
            "would be kernel with one prefix or exact path in each match",
        ),
        "rewrite-not-plain": (
            "the new path {value!r} has to be normalised",
            "would be kernel with a path free of %, //, /./ and the like",
        ),
        "header-edits": (
            "more than {limit} {direction} headers are removed or set",
            "would be kernel with at most {limit}",
        ),
        "header-framing": (
            "header {name} says where messages end or what a hop does",
            "would be kernel without the change to {name}",
        ),
        "header-variable": (
            "the value of header {name} has a variable",
            "would be kernel with a constant value",
        ),
        "retry": (
            "a retry on {on} needs the request to be kept",
            "would be kernel with retries on connect-failure, refused-stream, unavailable or cancelled alone",
        ),
        "per-try-timeout": (
            "a try may take less time than the whole request",
            "would be kernel without perTryTimeout, or with one as long as the timeout",
        ),
        "reply-too-large": (
            "the answer is longer than {limit} bytes",
            "would be kernel with a shorter body",
        ),
    }
)


def make_reason(code: str, span: Span, **values: object) -> Reason:
    """A reason of the catalogue, its texts filled in."""
    message, hint = REASONS[code]
    return Reason(code, span, message.format(**values), hint.format(**values))
