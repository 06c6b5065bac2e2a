"""The IR as text to read, diff and keep: `print_policy`, undone exactly by `parser.parse_policy`."""

from __future__ import annotations

from collections.abc import Iterator

from l7fp.ir.fields import FIELDS
from l7fp.ir.model import (
    AuthzPolicy,
    AuthzRule,
    CidrMatch,
    Cluster,
    Condition,
    Destination,
    DirectResponse,
    HeaderEdits,
    Match,
    Matcher,
    Policy,
    PortMatch,
    Redirect,
    RetryPolicy,
    Route,
    RouteTable,
    Rule,
    Service,
    StringKind,
    VirtualHost,
    Workload,
)
from l7fp.ir.text import Argument, Statement, Word, render

HEADER = "# l7fp IR 1"


def print_policy(policy: Policy) -> str:
    """The whole policy, one statement a line."""
    statements = [Statement("path_normalization", (Word(policy.path_normalization.value),))]
    statements += [_table(t) for t in policy.tables]
    statements += [_cluster(c) for c in policy.clusters]
    statements += [_service(s) for s in policy.services]
    statements += [_workload(w) for w in policy.workloads]
    statements += [_authz(p) for p in policy.authz]
    return "\n".join([HEADER, *render(statements)]) + "\n"


def print_rule(rule: Rule) -> str:
    """One rule, as it stands in the text of its policy."""
    return "\n".join(render([_rule(rule)]))


def _strings(keyword: str, values: tuple[str, ...]) -> Iterator[Statement]:
    if values:
        yield Statement(keyword, values)


def _table(table: RouteTable) -> Statement:
    return Statement("table", (table.port,), block=tuple(_virtual_host(h) for h in table.virtual_hosts))


def _virtual_host(host: VirtualHost) -> Statement:
    block = (
        *_strings("domains", host.domains),
        *_strings("addresses", host.addresses),
        *(_rule(r) for r in host.rules),
    )
    return Statement("virtual_host", (host.name,), host.span, block)


def _rule(rule: Rule) -> Statement:
    block = (*(_match("match", m) for m in rule.matches), _action(rule))
    return Statement("rule", (rule.name,), rule.span, block)


def _match(keyword: str, match: Match) -> Statement:
    return Statement(keyword, (), match.span, tuple(_condition(c) for c in match.conditions))


def _condition(condition: Condition) -> Statement:
    field = condition.field
    arguments: list[Argument] = [field.name] if FIELDS[field.kind].named else []
    for number, matcher in enumerate(condition.any_of):
        if number:
            arguments.append(Word("|"))
        arguments += _matcher(matcher)
    if not condition.any_of:
        arguments.append(Word("never"))
    if not condition.negate:
        return Statement(field.kind.value, tuple(arguments), condition.span)
    return Statement("not", (Word(field.kind.value), *arguments), condition.span)


def _matcher(matcher: Matcher) -> list[Argument]:
    match matcher:
        case CidrMatch():
            return [Word("cidr"), matcher.network]
        case PortMatch():
            return [Word("port"), matcher.port]
        case _:
            words: list[Argument] = [Word(matcher.kind.value)]
            if matcher.ignore_case:
                words.append(Word("nocase"))
            if matcher.kind is not StringKind.PRESENT:
                words.append(matcher.value)
            return words


def _action(rule: Rule) -> Statement:
    match rule.action:
        case Route():
            return _route(rule.action)
        case Redirect():
            return _redirect(rule.action)
        case DirectResponse():
            arguments = (rule.action.status, rule.action.body)
            return Statement("respond", arguments, block=tuple(_edits("response", rule.action.response_headers)))


def _route(route: Route) -> Statement:
    block = [_destination(d) for d in route.destinations]
    if route.path_rewrite is not None:
        rewrite = route.path_rewrite
        extra: tuple[Argument, ...] = (Word("regex_pattern"), rewrite.regex) if rewrite.regex else ()
        block.append(Statement("rewrite_path", (Word(rewrite.kind.value), rewrite.value, *extra)))
    if route.authority_rewrite is not None:
        block.append(Statement("rewrite_authority", (route.authority_rewrite,)))
    if route.timeout_ms is not None:
        block.append(Statement("timeout_ms", (route.timeout_ms,)))
    if route.retry is not None:
        block.append(_retry(route.retry))
    block += _edits("request", route.request_headers)
    block += _edits("response", route.response_headers)
    return Statement("route", block=tuple(block))


def _retry(retry: RetryPolicy) -> Statement:
    block = list(_strings("on", retry.on))
    if retry.status_codes:
        block.append(Statement("status_codes", retry.status_codes))
    if retry.per_try_timeout_ms is not None:
        block.append(Statement("per_try_timeout_ms", (retry.per_try_timeout_ms,)))
    return Statement("retry", (retry.attempts,), block=tuple(block))


def _destination(destination: Destination) -> Statement:
    block = (*_edits("request", destination.request_headers), *_edits("response", destination.response_headers))
    return Statement("to", (destination.cluster, Word("weight"), destination.weight), destination.span, block)


def _edits(keyword: str, edits: HeaderEdits) -> list[Statement]:
    if not edits:
        return []
    block = [Statement("remove", (name,)) for name in edits.remove]
    block += [Statement("set", item) for item in edits.set]
    block += [Statement("add", item) for item in edits.add]
    return [Statement(keyword, block=tuple(block))]


def _redirect(redirect: Redirect) -> Statement:
    block = []
    for keyword, text in (
        ("scheme", redirect.scheme),
        ("authority", redirect.authority),
        ("path", redirect.path),
        ("prefix_rewrite", redirect.prefix_rewrite),
    ):
        if text is not None:
            block.append(Statement(keyword, (text,)))
    if redirect.port is not None:
        block.append(Statement("port", (redirect.port,)))
    return Statement("redirect", (redirect.status,), block=(*block, *_edits("response", redirect.response_headers)))


def _cluster(cluster: Cluster) -> Statement:
    block = [Statement("host", (cluster.host,)), Statement("port", (cluster.port,))]
    if cluster.subset:
        block.append(Statement("subset", (cluster.subset,)))
    block.append(Statement("load_balancer", (Word(cluster.load_balancer.value),)))
    block.append(Statement("connect_timeout_ms", (cluster.connect_timeout_ms,)))
    for end in cluster.endpoints:
        arguments: list[Argument] = [end.address, end.port]
        if end.workload:
            arguments += [Word("workload"), end.workload]
        if end.weight != 1:
            arguments += [Word("weight"), end.weight]
        block.append(Statement("endpoint", tuple(arguments), end.span))
    return Statement("cluster", (cluster.name,), cluster.span, tuple(block))


def _service(service: Service) -> Statement:
    block = (Statement("namespace", (service.namespace,)), *_strings("addresses", service.addresses))
    if service.ports:
        block = (*block, Statement("ports", service.ports))
    return Statement("service", (service.host,), service.span, block)


def _workload(workload: Workload) -> Statement:
    block = [
        Statement("namespace", (workload.namespace,)),
        Statement("service_account", (workload.service_account,)),
        *(Statement("label", item) for item in workload.labels),
        *_strings("addresses", workload.addresses),
    ]
    if workload.cgroup:
        block.append(Statement("cgroup", (workload.cgroup,)))
    block += _strings("policies", workload.policies)
    return Statement("workload", (workload.name,), workload.span, tuple(block))


def _authz(policy: AuthzPolicy) -> Statement:
    block = tuple(_authz_rule(rule) for rule in policy.rules)
    return Statement("authz", (policy.name, Word(policy.action.value)), policy.span, block)


def _authz_rule(rule: AuthzRule) -> Statement:
    block = [_match("source", m) for m in rule.sources] + [_match("operation", m) for m in rule.operations]
    if rule.when != Match():
        block.append(_match("when", rule.when))
    return Statement("rule", (), rule.span, tuple(block))
