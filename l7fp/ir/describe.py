"""Conditions and matchers as one line of text, as the textual IR and the trail write them."""

from __future__ import annotations

import json

from l7fp.ir.model import CidrMatch, Condition, Field, FieldKind, Matcher, PortMatch, StringKind
from l7fp.ir.request import RequestView


def quote(text: str) -> str:
    """A JSON string in ASCII; bytes kept by surrogateescape survive the way back."""
    return json.dumps(text)


def field_text(field: Field) -> str:
    """`path`, `header "x-user"`."""
    return f"{field.kind.value} {quote(field.name)}" if field.name else field.kind.value


def matcher_text(matcher: Matcher) -> str:
    """`exact "/a"`, `prefix nocase "/a"`, `present`, `cidr "10.0.0.0/8"`, `port 80`."""
    if isinstance(matcher, CidrMatch):
        return f"cidr {quote(matcher.network)}"
    if isinstance(matcher, PortMatch):
        return f"port {matcher.port}"
    words = [matcher.kind.value]
    if matcher.ignore_case:
        words.append("nocase")
    if matcher.kind is not StringKind.PRESENT:
        words.append(quote(matcher.value))
    return " ".join(words)


def condition_text(condition: Condition) -> str:
    """`not header "x" exact "a" | present`; a condition without matchers says `never`."""
    matchers = " | ".join(matcher_text(m) for m in condition.any_of) or "never"
    return f"{'not ' if condition.negate else ''}{field_text(condition.field)} {matchers}"


def observed_text(view: RequestView, field: Field) -> str:
    """What a request has for a field: `path is "/x"`, `header "x-user" is absent`."""
    value: str | int | list[str] | None
    match field.kind:
        case FieldKind.PATH:
            value = view.path
        case FieldKind.METHOD:
            value = view.request.method
        case FieldKind.AUTHORITY:
            value = view.request.authority
        case FieldKind.SCHEME:
            value = view.request.scheme
        case FieldKind.HEADER:
            value = view.header(field.name)
        case FieldKind.QUERY:
            value = view.parameter(field.name)
        case FieldKind.SOURCE_IP | FieldKind.REMOTE_IP:
            value = view.source.ip
        case FieldKind.SOURCE_PRINCIPAL:
            value = view.source.principal
        case FieldKind.SOURCE_NAMESPACE:
            value = view.source.namespace
        case FieldKind.SOURCE_LABEL:
            value = dict(view.source.labels).get(field.name)
        case FieldKind.DESTINATION_IP:
            value = view.destination_ip
        case FieldKind.DESTINATION_PORT:
            value = view.port
        case FieldKind.REQUEST_PRINCIPAL | FieldKind.SNI:
            value = None
    name = field_text(field)
    if view.source.conflict and field.kind in _IDENTITY:
        return f"{name} is ambiguous"
    if value is None or (value == "" and field.kind in _UNKNOWN_WHEN_EMPTY):
        absent = "absent" if field.kind in (FieldKind.HEADER, FieldKind.QUERY) else "unknown"
        return f"{name} is {absent}"
    if isinstance(value, list):
        return f"{name} is {', '.join(quote(v) for v in value)}"
    return f"{name} is {quote(value) if isinstance(value, str) else value}"


_IDENTITY = frozenset({FieldKind.SOURCE_PRINCIPAL, FieldKind.SOURCE_NAMESPACE, FieldKind.SOURCE_LABEL})
_UNKNOWN_WHEN_EMPTY = _IDENTITY | {FieldKind.SOURCE_IP, FieldKind.REMOTE_IP, FieldKind.DESTINATION_IP}
