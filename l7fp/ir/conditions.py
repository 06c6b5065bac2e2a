"""Conditions compiled to functions of a `RequestView`.

A repeated header is read by stance. In routes, as Envoy 1.40 does it, a matcher holds when any value
matches (of a repeated query parameter only the first counts). A DENY rule holds when any single value or
their text joined with `,` makes it hold, an ALLOW rule only when every single value does: a client gains
nothing by repeating a header.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from l7fp.ir.fields import FIELDS
from l7fp.ir.matching import Test, compile_any, compile_networks
from l7fp.ir.model import CidrMatch, Condition, FieldKind, PortMatch, StringKind, StringMatch
from l7fp.ir.request import RequestView

Predicate = Callable[[RequestView], bool]


class Stance(Enum):
    """What a condition is used for."""

    ROUTE = "route"
    ALLOW = "allow"
    DENY = "deny"


def compile_condition(condition: Condition, stance: Stance) -> Predicate:
    """A function that tells whether the condition holds. Raises as `matching.compile_string`."""
    field, negate = condition.field, condition.negate
    match field.kind:
        case FieldKind.PATH:
            return _path(condition)
        case FieldKind.METHOD:
            test = _text(condition)
            return lambda v: test(v.request.method) != negate
        case FieldKind.AUTHORITY:
            return _single(lambda v: v.request.authority, condition)
        case FieldKind.SCHEME:
            return _single(lambda v: v.request.scheme, condition)
        case FieldKind.HEADER:
            return _multiple(lambda v: v.header(field.name), condition, stance)
        case FieldKind.QUERY:
            return _multiple(lambda v: v.parameter(field.name), condition, stance)
        case FieldKind.DESTINATION_PORT:
            ports = frozenset(m.port for m in condition.any_of if isinstance(m, PortMatch))
            return lambda v: (v.port in ports) != negate
        case FieldKind.SOURCE_IP | FieldKind.REMOTE_IP:
            # No hop in front of the client is trusted, so the remote address is the source's.
            return _address(lambda v: v.source.ip, condition)
        case FieldKind.DESTINATION_IP:
            return _address(lambda v: v.destination_ip, condition)
        case FieldKind.SOURCE_PRINCIPAL:
            return _identity(lambda v: v.source.principal, condition, stance)
        case FieldKind.SOURCE_NAMESPACE:
            return _identity(lambda v: v.source.namespace, condition, stance)
        case FieldKind.SOURCE_LABEL:
            return _identity(lambda v: dict(v.source.labels).get(field.name), condition, stance)
        case FieldKind.REQUEST_PRINCIPAL | FieldKind.SNI:
            return lambda v: negate  # never known: no token is verified and no TLS terminated here
    raise AssertionError(f"{field.kind} is not in the registry {len(FIELDS)}")


def _path(condition: Condition) -> Predicate:
    """The most asked of all, so the usual matchers are written out."""
    negate = condition.negate
    matchers = [m for m in condition.any_of if isinstance(m, StringMatch)]
    if not negate and not any(m.ignore_case for m in matchers):
        values = tuple(m.value for m in matchers)
        kinds = {m.kind for m in matchers}
        if kinds == {StringKind.PREFIX}:
            return lambda v: v.path.startswith(values)
        if kinds == {StringKind.EXACT} and len(values) == 1:
            value = values[0]
            return lambda v: v.path == value
    test = _text(condition)
    return lambda v: test(v.path) != negate


def _text(condition: Condition) -> Test:
    return compile_any(m for m in condition.any_of if isinstance(m, StringMatch))


def _single(read: Callable[[RequestView], str], condition: Condition) -> Predicate:
    test, negate = _text(condition), condition.negate
    return lambda v: test(read(v)) != negate


def _address(read: Callable[[RequestView], str], condition: Condition) -> Predicate:
    test = compile_networks(m.network for m in condition.any_of if isinstance(m, CidrMatch))
    negate = condition.negate
    return lambda v: test(read(v)) != negate


def _identity(read: Callable[[RequestView], str | None], condition: Condition, stance: Stance) -> Predicate:
    test, negate = _text(condition), condition.negate
    when_ambiguous = stance is Stance.DENY

    def holds(view: RequestView) -> bool:
        if view.source.conflict:
            return when_ambiguous
        value = read(view)
        return (bool(value) and test(value or "")) != negate

    return holds


def _multiple(read: Callable[[RequestView], list[str] | None], condition: Condition, stance: Stance) -> Predicate:
    test, negate = _text(condition), condition.negate
    is_header = condition.field.kind is FieldKind.HEADER

    def route(view: RequestView) -> bool:
        values = read(view)
        if values is None:
            return negate
        return (test(values[0]) or (is_header and any(test(value) for value in values[1:]))) != negate

    def deny(view: RequestView) -> bool:
        values = read(view)
        if values is None:
            return negate
        if any(test(value) != negate for value in values):
            return True
        return is_header and len(values) > 1 and test(",".join(values)) != negate

    def allow(view: RequestView) -> bool:
        values = read(view)
        if values is None:
            return negate
        return all(test(value) != negate for value in values)

    return {Stance.ROUTE: route, Stance.DENY: deny, Stance.ALLOW: allow}[stance]
