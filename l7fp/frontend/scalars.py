"""What the text of a scalar means, by the type that the schema expects.

YAML 1.1 and 1.2 disagree on `yes`, `on`, `017`, `0o17`, `1_000` and `1:30`, and Kubernetes reads
them in a third way. Where readers disagree, the text is refused with the mend (quotes or plain
decimal) instead of guessed at.
"""

from __future__ import annotations

import re

from l7fp.frontend.yaml import Scalar, is_null

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NUMBER_LIKE = re.compile(
    r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9_]+([eE][-+]?[0-9]+)?"
    r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)
_BOOL_WORDS = frozenset(
    form for word in ("yes", "no", "on", "off", "true", "false") for form in (word, word.capitalize(), word.upper())
)
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


class Unreadable(ValueError):
    """`args[0]` says what is wrong, `args[1]` the mend, `args[2]` the code of the finding."""

    def __init__(self, message: str, hint: str, code: str = "L7FP202") -> None:
        super().__init__(message, hint, code)


def text(node: Scalar) -> str:
    """Text; a plain scalar that some reader takes for a number or a boolean is refused."""
    if node.quoted:
        return node.value
    if is_null(node):
        raise Unreadable("text is expected, and nothing is there", 'write "" for the empty text')
    if node.value in _BOOL_WORDS:
        raise Unreadable(f"`{node.value}` is a boolean to YAML 1.1", f'write "{node.value}" in quotes', "L7FP212")
    if _NUMBER_LIKE.fullmatch(node.value):
        raise Unreadable(f"`{node.value}` is a number to YAML", f'write "{node.value}" in quotes', "L7FP212")
    return node.value


def integer(node: Scalar) -> int:
    """A decimal integer."""
    if node.quoted:
        raise Unreadable(f'"{node.value}" is text, a number is expected', "remove the quotes")
    if not _DECIMAL.fullmatch(node.value):
        if _NUMBER_LIKE.fullmatch(node.value) or re.fullmatch(r"[0-9]+(:[0-9]+)+", node.value):
            message = f"`{node.value}` means different numbers to different YAML readers, or isn't whole"
            raise Unreadable(message, "write a plain decimal number", "L7FP212")
        raise Unreadable(f"`{node.value}` is not a whole number", "write a plain decimal number")
    return int(node.value)


def number(node: Scalar) -> float:
    """A decimal number."""
    if node.quoted:
        raise Unreadable(f'"{node.value}" is text, a number is expected', "remove the quotes")
    if not _NUMBER.fullmatch(node.value):
        raise Unreadable(f"`{node.value}` is not a number", "write a plain decimal number")
    return float(node.value)


def boolean(node: Scalar) -> bool:
    """`true` or `false`."""
    if not node.quoted and node.value in _TRUE:
        return True
    if not node.quoted and node.value in _FALSE:
        return False
    if not node.quoted and node.value in _BOOL_WORDS:
        message = f"`{node.value}` is a boolean to YAML 1.1 only"
        raise Unreadable(message, "write true or false", "L7FP212")
    raise Unreadable(f"`{node.value}` is not a boolean", "write true or false without quotes")


def duration_ns(node: Scalar) -> int:
    """A duration as Istio and Go write it (`1.5s`, `1h30m`, `200ms`), in nanoseconds."""
    rest, total = node.value, 0.0
    if not node.quoted and _NUMBER_LIKE.fullmatch(rest):
        raise Unreadable(f"`{rest}` has no unit", f"write {rest}s or {rest}ms", "L7FP209")
    while rest:
        part = _DURATION_PART.match(rest)
        if part is None:
            break
        total += float(part[1]) * _NANOSECONDS[part[2]]
        rest = rest[part.end() :]
    if rest or not node.value:
        raise Unreadable(f"`{node.value}` is not a duration", "write one such as 250ms, 2s or 1m30s", "L7FP209")
    return round(total)
