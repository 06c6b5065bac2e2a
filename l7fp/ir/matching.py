"""Matchers compiled to functions: `str -> bool`, built once and called for every request.

Text is compared byte for byte (surrogateescape keeps bytes that are not UTF-8); case is ASCII case.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from l7fp.errors import UnavailableError
from l7fp.ir.model import StringKind, StringMatch

Test = Callable[[str], bool]

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_TEMPLATE_BYTES = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;:@="
)  # what Envoy's URI templates let {*} and {**} stand for


def lower(text: str) -> str:
    """ASCII lower case; other characters are left alone (U+212A is no `k`)."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def compile_string(match: StringMatch) -> Test:
    """A test for one matcher. Raises `UnavailableError` for REGEX without google-re2, ValueError for a
    pattern or template that is not valid."""
    value = match.value
    if match.kind is StringKind.PRESENT:
        return lambda text: True
    if match.kind is StringKind.REGEX:
        return compile_regex(value)
    if match.ignore_case:
        folded = compile_string(StringMatch(match.kind, lower(value)))
        return lambda text: folded(lower(text))
    match match.kind:
        case StringKind.EXACT:
            return lambda text: text == value
        case StringKind.PREFIX:
            return lambda text: text.startswith(value)
        case StringKind.SUFFIX:
            return lambda text: text.endswith(value)
        case StringKind.CONTAINS:
            return lambda text: value in text
        case _:
            return compile_template(value)


def compile_any(matchers: Iterable[StringMatch]) -> Test:
    """A test that holds when any matcher does."""
    items = tuple(matchers)
    if len(items) == 1:
        return compile_string(items[0])
    exact = frozenset(m.value for m in items if m.kind is StringKind.EXACT and not m.ignore_case)
    tests = tuple(compile_string(m) for m in items if m.kind is not StringKind.EXACT or m.ignore_case)
    if not tests:
        return lambda text: text in exact
    return lambda text: text in exact or any(test(text) for test in tests)


def compile_regex(pattern: str) -> Test:
    """RE2, the whole text must match. A pattern never sees the letter case changed."""
    compiled = re2_compile(pattern)
    return lambda text: compiled.fullmatch(text.encode("utf-8", "surrogateescape")) is not None


def re2_compile(pattern: str) -> Any:
    """A compiled RE2 pattern over bytes. Raises as `compile_string`."""
    try:
        import re2
    except ImportError as error:
        raise UnavailableError(
            "regular expressions need the google-re2 package", hint="pip install google-re2"
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode("utf-8", "surrogateescape"), options)
    except re2.error as error:
        raise ValueError(f"not a valid RE2 pattern: {error}") from error


def template_parts(template: str) -> tuple[tuple[str | None, ...], str | None]:
    """A path template as (segments before `{**}`, text after it); `{*}` is None, no `{**}`: None.

    Operators stand for whole segments, `{**}` at most once and after every `{*}`, as Istio demands.
    Raises ValueError otherwise.
    """
    head, many, tail = template.partition("{**}")
    if not template.startswith("/"):
        raise ValueError("a path template begins with /")
    if many and (not head.endswith("/") or (tail and not tail.startswith("/"))):
        raise ValueError("{**} stands for whole segments")
    if "{" in tail or "}" in tail:
        raise ValueError("{**} is the last operator of a path template")
    segments = tuple(None if s == "{*}" else s for s in head.split("/"))
    if any(s is not None and ("{" in s or "}" in s) for s in segments):
        raise ValueError("braces other than {*} and {**} as whole segments")
    return segments, tail if many else None


def compile_template(template: str) -> Test:
    """Istio's path templates: `{*}` is one non-empty segment, `{**}` any text, slashes included."""
    segments, tail = template_parts(template)
    allowed = _TEMPLATE_BYTES
    if tail is None:
        count = len(segments)

        def whole(text: str) -> bool:
            parts = text.split("/")
            return len(parts) == count and _segments_match(segments, parts)

        return whole
    fixed = segments[:-1]  # the last one is what precedes {**} in its own segment: empty
    after = tail
    slash_allowed = allowed | {"/"}

    def open_ended(text: str) -> bool:
        parts = text.split("/", len(fixed))
        if len(parts) <= len(fixed) or not _segments_match(fixed, parts):
            return False
        rest = parts[len(fixed)]
        return rest.endswith(after) and slash_allowed.issuperset(rest[: len(rest) - len(after)])

    return open_ended


def _segments_match(wanted: tuple[str | None, ...], parts: list[str]) -> bool:
    for want, part in zip(wanted, parts, strict=False):
        if want is None:
            if not part or not _TEMPLATE_BYTES.issuperset(part):
                return False
        elif want != part:
            return False
    return True


@lru_cache(maxsize=4096)
def address_key(text: str) -> tuple[int, int] | None:
    """(IP version, number) of an address, IPv4-mapped IPv6 as IPv4; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def compile_networks(networks: Iterable[str]) -> Test:
    """A test of address text against CIDR blocks. Raises ValueError for a block that is none."""
    blocks = []
    for text in networks:
        network = ipaddress.ip_network(text, strict=False)
        blocks.append((network.version, int(network.netmask), int(network.network_address)))

    def test(text: str) -> bool:
        key = address_key(text)
        if key is None:
            return False
        version, number = key
        return any(v == version and number & mask == base for v, mask, base in blocks)

    return test
