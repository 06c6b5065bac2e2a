"""Match blocks of a VirtualService to IR conditions, as istiod translates them for Envoy."""

from __future__ import annotations

from l7fp.frontend import wire
from l7fp.frontend.lower.context import Context
from l7fp.frontend.schema import At
from l7fp.frontend.virtual_service import HttpMatch, StringMatch
from l7fp.ir import model
from l7fp.ir.model import Condition, Field, FieldKind, Match, StringKind

_PSEUDO = {
    ":method": FieldKind.METHOD,
    ":authority": FieldKind.AUTHORITY,
    "host": FieldKind.AUTHORITY,
    ":scheme": FieldKind.SCHEME,
}
_RESERVED = frozenset(("uri", "scheme", "method", "authority"))

PREFIX_OF_ALL = Condition(field=Field(FieldKind.PATH), any_of=(model.StringMatch(StringKind.PREFIX, "/"),))
"""What Envoy matches where a route says nothing about the path; rewrites replace it."""


def string_match(match: StringMatch, *, ignore_case: bool = False) -> model.StringMatch:
    """exact, prefix, regex, or presence."""
    if match.exact is not None:
        return model.StringMatch(StringKind.EXACT, match.exact.value, ignore_case)
    if match.prefix is not None:
        return model.StringMatch(StringKind.PREFIX, match.prefix.value, ignore_case)
    if match.regex is not None:
        return model.StringMatch(StringKind.REGEX, match.regex.value)
    return model.StringMatch(StringKind.PRESENT)


def source_conditions(block: HttpMatch) -> tuple[Condition, ...]:
    """Conditions on who asks: istiod resolves them per client, here they are part of the rule."""
    made = [
        Condition(
            field=Field(FieldKind.SOURCE_LABEL, name.value),
            any_of=(model.StringMatch(StringKind.EXACT, value.value),),
            span=name.span,
        )
        for name, value in block.source_labels
    ]
    namespace = block.source_namespace
    if namespace is not None and namespace.value:
        made.append(
            Condition(
                field=Field(FieldKind.SOURCE_NAMESPACE),
                any_of=(model.StringMatch(StringKind.EXACT, namespace.value),),
                span=namespace.span,
            )
        )
    return tuple(made)


def lower_match(block: HttpMatch, context: Context) -> Match:
    """All conditions of a block but those that a route table already answers (port, gateways)."""
    made: list[Condition] = []
    if block.uri is not None:
        made.append(_uri(block, block.uri, context))
    for kind, match in (
        (FieldKind.METHOD, block.method),
        (FieldKind.AUTHORITY, block.authority),
        (FieldKind.SCHEME, block.scheme),
    ):
        if match is not None:
            made.append(Condition(field=Field(kind), any_of=(string_match(match),), span=match.span))
    for name, match in block.headers:
        made.extend(_header(name, match, context, negate=False))
    for name, match in block.without_headers:
        made.extend(_header(name, match, context, negate=True))
    for name, match in block.query_params:
        field = Field(FieldKind.QUERY, name.value)
        made.append(Condition(field=field, any_of=(string_match(match),), span=name.span))
    made.extend(source_conditions(block))
    return Match(conditions=tuple(made), span=block.span)


def _uri(block: HttpMatch, uri: StringMatch, context: Context) -> Condition:
    fold = block.ignore_uri_case is not None and block.ignore_uri_case.value
    if fold and uri.regex is not None and block.ignore_uri_case is not None:
        message = "ignoreUriCase has no effect on a regular expression"
        context.sink.warning("L7FP503", block.ignore_uri_case.span, message, "write (?i) at its start")
    text = uri.exact or uri.prefix
    if text is not None and text.value and (not text.value.startswith("/") or set(text.value) & set("?#")):
        hint = "paths start with / and end before the query"
        context.sink.warning("L7FP501", text.span, f"no path looks like `{text.value}`: this never matches", hint)
    return Condition(field=Field(FieldKind.PATH), any_of=(string_match(uri, ignore_case=fold),), span=uri.span)


def _header(name: At[str], match: StringMatch, context: Context, *, negate: bool) -> list[Condition]:
    lowered = name.value.lower()
    if lowered == ":path":
        message = "a condition on :path sees the query too, which isn't offered"
        context.sink.error("L7FP402", name.span, message, "use uri and queryParams")
    if lowered in _RESERVED and not negate:
        hint = f"use the field {lowered} of the match, or :{lowered}" if lowered != "uri" else "use the field uri"
        context.sink.warning("L7FP503", name.span, f"`{lowered}` here means a header of that name", hint)
    kind = _PSEUDO.get(lowered)
    field = Field(FieldKind.HEADER, lowered) if kind is None else Field(kind)
    matcher = string_match(match)
    made = [Condition(field=field, any_of=(matcher,), negate=negate, span=name.span)]
    if negate and _matches_empty(matcher):
        # Envoy takes an absent header for an empty one here (treat_missing_header_as_empty).
        present = model.StringMatch(StringKind.PRESENT)
        made.append(Condition(field=field, any_of=(present,), span=name.span))
    return made


def _matches_empty(matcher: model.StringMatch) -> bool:
    match matcher.kind:
        case StringKind.EXACT:
            return not matcher.value
        case StringKind.REGEX:
            return wire.compile_regex(matcher.value).fullmatch("") is not None
    return False
