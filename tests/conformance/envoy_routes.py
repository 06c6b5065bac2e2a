"""Route tables in Envoy's words, for one kind of client. What Envoy can't say is noted, not approximated.

Source identity and ports are known when a sidecar is configured, so conditions on them are decided here, as Istio does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from l7fp.ir.conditions import Stance, compile_condition
from l7fp.ir.matching import address_key
from l7fp.ir.model import (
    Condition,
    DirectResponse,
    FieldKind,
    HeaderEdits,
    Match,
    Matcher,
    PathRewrite,
    Redirect,
    RewriteKind,
    Route,
    RouteTable,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
)
from l7fp.ir.request import Request, RequestView

Json = dict[str, Any]

RULE_HEADER = "conformance-rule"
PICK_HEADER = "conformance-pick"
_TYPE = "type.googleapis.com/envoy"
_STATUS = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_STATIC = {
    FieldKind.DESTINATION_PORT,
    FieldKind.DESTINATION_IP,
    FieldKind.SOURCE_IP,
    FieldKind.SOURCE_LABEL,
    FieldKind.SOURCE_NAMESPACE,
    FieldKind.SOURCE_PRINCIPAL,
}
_HEADERS = {FieldKind.METHOD: ":method", FieldKind.AUTHORITY: ":authority", FieldKind.SCHEME: ":scheme"}


class InexpressibleError(Exception):
    """Envoy has no words for it."""


def string_match(match: StringMatch) -> Json:
    """A `type.matcher.v3.StringMatcher`."""
    if match.kind is StringKind.REGEX:
        return {"safe_regex": {"regex": match.value}}
    if match.kind is StringKind.PRESENT:
        return {"safe_regex": {"regex": ".+"}}
    return {match.kind.value: match.value, **({"ignore_case": True} if match.ignore_case else {})}


def template(match: StringMatch) -> Json:
    """The extension that matches Istio's path templates."""
    text = match.value.replace("{**}", "**").replace("{*}", "*")
    kind = f"{_TYPE}.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    return {
        "name": "envoy.path.match.uri_template.uri_template_matcher",
        "typed_config": {"@type": kind, "path_template": text},
    }


def header_edits(edits: HeaderEdits, prefix: str) -> Json:
    """Fields of a route or weighted cluster; `prefix` is `request` or `response`."""
    written = [(pair, "OVERWRITE_IF_EXISTS_OR_ADD") for pair in edits.set]
    written += [(pair, "APPEND_IF_EXISTS_OR_ADD") for pair in edits.add]
    return {
        f"{prefix}_headers_to_remove": list(edits.remove),
        f"{prefix}_headers_to_add": [_header(name, value, action) for (name, value), action in written],
    }


def _header(name: str, value: str, action: str) -> Json:
    value = value.replace("%", "%%")
    return {"header": {"key": name, "value": value}, "append_action": action, "keep_empty_value": True}


class Routes:
    """`hosts(table)` makes the virtual hosts; `clusters` are the policy's clusters by the names that Envoy has for
    them. `inexpressible` collects rule name -> why, of those that it left out."""

    def __init__(self, client: Request, clusters: Mapping[str, str]) -> None:
        self._client = client
        self._names = clusters
        self._view = RequestView(client, client.port, client.destination_ip)
        self.inexpressible: dict[str, str] = {}

    def hosts(self, table: RouteTable) -> list[Json]:
        """The virtual hosts. Choice by address is the listener's: its owner takes what nobody claims."""
        claimed = any("*" in host.domains for host in table.virtual_hosts)
        address = address_key(self._client.destination_ip)
        out = []
        for host in table.virtual_hosts:
            owner = not claimed and address is not None and address in map(address_key, host.addresses)
            domains = [*host.domains, *(["*"] if owner else [])]
            out.append({"name": host.name, "domains": domains, "routes": list(self._routes(host))})
        return out

    def _routes(self, host: VirtualHost) -> Iterator[Json]:
        for rule in host.rules:
            try:
                action = self._action(rule)
                matches = [m for match in rule.matches or (Match(),) for m in self._matches(match)]
            except InexpressibleError as error:
                self.inexpressible[rule.name] = str(error)
                continue
            for match in matches:
                if "path_match_policy" in match and "prefix_rewrite" in action.get("route", ()):
                    self.inexpressible[rule.name] = "nothing of the path can be replaced where a template matched"
                else:
                    yield {"match": match, **_named(action, rule.name)}

    def _action(self, rule: Rule) -> Json:
        action = rule.action
        match action:
            case DirectResponse():
                body = {"body": {"inline_string": action.body}} if action.body else {}
                return {
                    "direct_response": {"status": action.status, **body},
                    **header_edits(action.response_headers, "response"),
                }
            case Redirect():
                return {"redirect": _redirect(action), **header_edits(action.response_headers, "response")}
            case Route():
                return {
                    "route": {"timeout": "5s", **self._clusters(action), **_rewrites(action)},
                    **header_edits(action.request_headers, "request"),
                    **header_edits(action.response_headers, "response"),
                }

    def _clusters(self, route: Route) -> Json:
        total = sum(d.weight for d in route.destinations)
        if not 0 < total < 2**32:
            raise InexpressibleError("weights add up to 0" if not total else "weights add up to more than 32 bits")
        weighted = [
            {
                "name": self._names[d.cluster],
                "weight": d.weight,
                **header_edits(d.request_headers, "request"),
                **header_edits(d.response_headers, "response"),
            }
            for d in route.destinations
        ]
        return {"weighted_clusters": {"clusters": weighted, "header_name": PICK_HEADER}}

    def _matches(self, match: Match) -> Iterator[Json]:
        """Every way to meet the match: Envoy has no `or` inside of one."""
        conditions = []
        for condition in match.conditions:
            if condition.field.kind not in _STATIC:
                conditions.append(condition)
            elif not compile_condition(condition, Stance.ROUTE)(self._view):
                return
        where = next((c for c in conditions if c.field.kind is FieldKind.PATH and not c.negate), None)
        others = [c for c in conditions if c is not where]
        for path in where.any_of if where is not None else (StringMatch(StringKind.PREFIX, "/"),):
            assert isinstance(path, StringMatch)
            for chosen in product(*(_alternatives(c) for c in others)):
                headers = [item for key, items in chosen if key == "headers" for item in items]
                queries = [item for key, items in chosen if key == "query_parameters" for item in items]
                yield {**_path(path), "headers": headers, "query_parameters": queries}


def _path(match: StringMatch) -> Json:
    folding = {"case_sensitive": False} if match.ignore_case else {}
    match match.kind:
        case StringKind.EXACT:
            return {"path": match.value, **folding}
        case StringKind.PREFIX:
            return {"prefix": match.value, **folding}
        case StringKind.PATH_TEMPLATE:
            return {"path_match_policy": template(match)}
        case _:
            return {"safe_regex": {"regex": _path_regex(match)}}


def _path_regex(match: StringMatch) -> str:
    value = re.escape(match.value)
    match match.kind:
        case StringKind.REGEX:
            return match.value
        case StringKind.EXACT:
            pattern = value
        case StringKind.PREFIX:
            pattern = f"{value}.*"
        case StringKind.SUFFIX:
            pattern = f".*{value}"
        case StringKind.CONTAINS:
            pattern = f".*{value}.*"
        case StringKind.PRESENT:
            pattern = ".*"
        case _:
            raise InexpressibleError("a second path condition is a template")
    return f"(?i:{pattern})" if match.ignore_case else pattern


def _alternatives(condition: Condition) -> list[tuple[str, list[Json]]]:
    """(field of RouteMatch, its items) for each way to meet the condition."""
    made = [_item(condition, matcher) for matcher in condition.any_of]
    if not condition.negate:
        return [(key, [item]) for key, item in made]
    if any(key != "headers" for key, _ in made):
        raise InexpressibleError("a query parameter must not match")
    inverted = [{**item, "invert_match": True} for _, item in made]
    # Istio says so for withoutHeaders, or an absent header would not do
    return [("headers", [{**i, "treat_missing_header_as_empty": "string_match" in i} for i in inverted])]


def _item(condition: Condition, matcher: Matcher) -> tuple[str, Json]:
    kind, name = condition.field.kind, condition.field.name
    if not isinstance(matcher, StringMatch):
        raise InexpressibleError(f"{kind.value} is no field of a request")
    present = matcher.kind is StringKind.PRESENT
    value: Json = {"present_match": True} if present else {"string_match": string_match(matcher)}
    if kind is FieldKind.PATH:
        regex = f"(?:{_path_regex(matcher)})(?:\\?.*)?"
        return "headers", {"name": ":path", "string_match": {"safe_regex": {"regex": regex}}}
    if kind is FieldKind.QUERY:
        return "query_parameters", {"name": name, **value}
    if kind is FieldKind.HEADER or kind in _HEADERS:
        return "headers", {"name": _HEADERS.get(kind, name), **value}
    raise InexpressibleError(f"routes can't look at {kind.value}")


def _named(action: Json, rule: str) -> Json:
    """The route also tells its name."""
    told = _header(RULE_HEADER, rule, "OVERWRITE_IF_EXISTS_OR_ADD")
    return {**action, "response_headers_to_add": [*action.get("response_headers_to_add", ()), told]}


def _redirect(redirect: Redirect) -> Json:
    fields = {
        "scheme_redirect": redirect.scheme,
        "host_redirect": redirect.authority,
        "port_redirect": redirect.port,
        "path_redirect": redirect.path,
        "prefix_rewrite": redirect.prefix_rewrite,
    }
    return {"response_code": _STATUS[redirect.status], **{k: v for k, v in fields.items() if v is not None}}


def _rewrites(route: Route) -> Json:
    out: Json = {}
    if route.authority_rewrite is not None:
        out["host_rewrite_literal"] = route.authority_rewrite
    rewrite = route.path_rewrite
    if rewrite is not None:
        out |= _path_rewrite(rewrite)
    return out


def _path_rewrite(rewrite: PathRewrite) -> Json:
    if rewrite.kind is RewriteKind.PREFIX:
        return {"prefix_rewrite": rewrite.value}
    pattern, value = rewrite.regex, rewrite.value
    if rewrite.kind is RewriteKind.FULL:
        pattern, value = ".+", value.replace("\\", "\\\\")
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": value}}


def domains(table: RouteTable) -> Iterable[str]:
    """All domains of a table."""
    return (domain for host in table.virtual_hosts for domain in host.domains)
