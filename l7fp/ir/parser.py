"""Text to IR: the inverse of `printer.print_policy`. What the text doesn't say has the model's default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeVar

from l7fp.ir.fields import FIELDS
from l7fp.ir.model import (
    NO_EDITS,
    Action,
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    CidrMatch,
    Cluster,
    Condition,
    Destination,
    DirectResponse,
    Endpoint,
    Field,
    FieldKind,
    HeaderEdits,
    LoadBalancer,
    Match,
    Matcher,
    PathNormalization,
    PathRewrite,
    Policy,
    PortMatch,
    Redirect,
    RetryPolicy,
    RewriteKind,
    Route,
    RouteTable,
    Rule,
    Service,
    StringKind,
    StringMatch,
    VirtualHost,
    Workload,
)
from l7fp.ir.text import Arguments, Statement, scan

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=Enum)

_FIELD_KINDS = {kind.value: kind for kind in FieldKind}


def parse_policy(text: str) -> Policy:
    """The policy that the text says. Raises `PolicyError` that names the line."""
    block = _Block(scan(text))
    made = Policy(
        path_normalization=block.one("path_normalization", _enum(PathNormalization), PathNormalization.BASE),
        tables=block.all("table", _table),
        clusters=block.all("cluster", _cluster),
        services=block.all("service", _service),
        workloads=block.all("workload", _workload),
        authz=block.all("authz", _authz),
    )
    block.done()
    return made


class _Block:
    """Statements by keyword. Whoever reads a block ends with `done`, which complains about what is left."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._left: dict[str, list[Statement]] = {}
        for statement in statements:
            self._left.setdefault(statement.keyword, []).append(statement)

    def all(self, keyword: str, read: Callable[[Statement], T]) -> tuple[T, ...]:
        """What `read` makes of every statement of the keyword, in order."""
        return tuple(read(s) for s in self._left.pop(keyword, ()))

    def one(self, keyword: str, read: Callable[[Statement], T], default: D) -> T | D:
        """What `read` makes of the only statement of the keyword, or the default."""
        found = self._left.pop(keyword, [])
        if len(found) > 1:
            raise Arguments(found[1]).wrong("is there twice")
        return read(found[0]) if found else default

    def done(self) -> None:
        """Raise `PolicyError` for a statement that was not asked for."""
        for statements in self._left.values():
            raise Arguments(statements[0]).wrong("is not known here")


def _leaf(statement: Statement) -> Arguments:
    if statement.block:
        raise Arguments(statement).wrong("takes no block")
    return Arguments(statement)


def _ended(arguments: Arguments, value: T) -> T:
    arguments.end()
    return value


def _string(statement: Statement) -> str:
    arguments = _leaf(statement)
    return _ended(arguments, arguments.string())


def _strings(statement: Statement) -> tuple[str, ...]:
    return _leaf(statement).strings()


def _integer(statement: Statement) -> int:
    arguments = _leaf(statement)
    return _ended(arguments, arguments.integer())


def _integers(statement: Statement) -> tuple[int, ...]:
    return _leaf(statement).integers()


def _pair(statement: Statement) -> tuple[str, str]:
    arguments = _leaf(statement)
    return _ended(arguments, (arguments.string(), arguments.string()))


def _enum(kind: type[E]) -> Callable[[Statement], E]:
    def read(statement: Statement) -> E:
        arguments = _leaf(statement)
        return _ended(arguments, _member(arguments, kind))

    return read


def _member(arguments: Arguments, kind: type[E]) -> E:
    word = arguments.word()
    try:
        return kind(word)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise arguments.wrong(f"{word} is none of {known}") from None


def _table(statement: Statement) -> RouteTable:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = RouteTable(
        port=_ended(arguments, arguments.integer()), virtual_hosts=block.all("virtual_host", _virtual_host)
    )
    block.done()
    return made


def _virtual_host(statement: Statement) -> VirtualHost:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = VirtualHost(
        name=_ended(arguments, arguments.string()),
        domains=block.one("domains", _strings, ()),
        addresses=block.one("addresses", _strings, ()),
        rules=block.all("rule", _rule),
        span=statement.span,
    )
    block.done()
    return made


def _rule(statement: Statement) -> Rule:
    arguments, block = Arguments(statement), _Block(statement.block)
    matches = block.all("match", _match)
    actions: list[Action] = [
        *block.all("route", _route),
        *block.all("redirect", _redirect),
        *block.all("respond", _direct_response),
    ]
    block.done()
    if len(actions) != 1:
        raise arguments.wrong("exactly one of route, redirect and respond is expected")
    name = _ended(arguments, arguments.string())
    return Rule(name=name, matches=matches, action=actions[0], span=statement.span)


def _match(statement: Statement) -> Match:
    Arguments(statement).end()
    return Match(conditions=tuple(_condition(s) for s in statement.block), span=statement.span)


def _condition(statement: Statement) -> Condition:
    arguments = _leaf(statement)
    negate = statement.keyword == "not"
    keyword = arguments.word() if negate else statement.keyword
    if keyword not in _FIELD_KINDS:
        raise arguments.wrong(f"{keyword} is not a field")
    kind = _FIELD_KINDS[keyword]
    name = arguments.string() if FIELDS[kind].named else ""
    matchers: list[Matcher] = []
    if not arguments.option("never"):
        matchers.append(_matcher(arguments))
        while arguments.option("|"):
            matchers.append(_matcher(arguments))
    arguments.end()
    return Condition(field=Field(kind, name), any_of=tuple(matchers), negate=negate, span=statement.span)


def _matcher(arguments: Arguments) -> Matcher:
    if arguments.option("cidr"):
        return CidrMatch(arguments.string())
    if arguments.option("port"):
        return PortMatch(arguments.integer())
    kind = _member(arguments, StringKind)
    ignore_case = arguments.option("nocase")
    return StringMatch(kind, "" if kind is StringKind.PRESENT else arguments.string(), ignore_case)


def _edits(statement: Statement) -> HeaderEdits:
    Arguments(statement).end()
    block = _Block(statement.block)
    made = HeaderEdits(remove=block.all("remove", _string), set=block.all("set", _pair), add=block.all("add", _pair))
    block.done()
    return made


def _route(statement: Statement) -> Route:
    Arguments(statement).end()
    block = _Block(statement.block)
    made = Route(
        destinations=block.all("to", _destination),
        path_rewrite=block.one("rewrite_path", _path_rewrite, None),
        authority_rewrite=block.one("rewrite_authority", _string, None),
        timeout_ms=block.one("timeout_ms", _integer, None),
        retry=block.one("retry", _retry, None),
        request_headers=block.one("request", _edits, NO_EDITS),
        response_headers=block.one("response", _edits, NO_EDITS),
    )
    block.done()
    return made


def _path_rewrite(statement: Statement) -> PathRewrite:
    arguments = _leaf(statement)
    kind = _member(arguments, RewriteKind)
    value = arguments.string()
    regex = arguments.string() if arguments.option("regex_pattern") else ""
    return _ended(arguments, PathRewrite(kind=kind, value=value, regex=regex))


def _retry(statement: Statement) -> RetryPolicy:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = RetryPolicy(
        attempts=_ended(arguments, arguments.integer()),
        on=block.one("on", _strings, ()),
        status_codes=block.one("status_codes", _integers, ()),
        per_try_timeout_ms=block.one("per_try_timeout_ms", _integer, None),
    )
    block.done()
    return made


def _destination(statement: Statement) -> Destination:
    arguments, block = Arguments(statement), _Block(statement.block)
    cluster = arguments.string()
    weight = arguments.integer() if arguments.option("weight") else 1
    arguments.end()
    request, response = block.one("request", _edits, NO_EDITS), block.one("response", _edits, NO_EDITS)
    block.done()
    return Destination(
        cluster=cluster, weight=weight, request_headers=request, response_headers=response, span=statement.span
    )


def _redirect(statement: Statement) -> Redirect:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = Redirect(
        status=_ended(arguments, arguments.integer()),
        scheme=block.one("scheme", _string, None),
        authority=block.one("authority", _string, None),
        port=block.one("port", _integer, None),
        path=block.one("path", _string, None),
        prefix_rewrite=block.one("prefix_rewrite", _string, None),
        response_headers=block.one("response", _edits, NO_EDITS),
    )
    block.done()
    return made


def _direct_response(statement: Statement) -> DirectResponse:
    arguments, block = Arguments(statement), _Block(statement.block)
    status, body = arguments.integer(), arguments.string()
    arguments.end()
    edits = block.one("response", _edits, NO_EDITS)
    block.done()
    return DirectResponse(status=status, body=body, response_headers=edits)


def _cluster(statement: Statement) -> Cluster:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = Cluster(
        name=_ended(arguments, arguments.string()),
        host=block.one("host", _string, ""),
        port=block.one("port", _integer, 0),
        subset=block.one("subset", _string, ""),
        load_balancer=block.one("load_balancer", _enum(LoadBalancer), LoadBalancer.ROUND_ROBIN),
        endpoints=block.all("endpoint", _endpoint),
        connect_timeout_ms=block.one("connect_timeout_ms", _integer, 10_000),
        span=statement.span,
    )
    block.done()
    return made


def _endpoint(statement: Statement) -> Endpoint:
    arguments = _leaf(statement)
    address, port = arguments.string(), arguments.integer()
    workload = arguments.string() if arguments.option("workload") else ""
    weight = arguments.integer() if arguments.option("weight") else 1
    arguments.end()
    return Endpoint(address=address, port=port, workload=workload, weight=weight, span=statement.span)


def _service(statement: Statement) -> Service:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = Service(
        host=_ended(arguments, arguments.string()),
        namespace=block.one("namespace", _string, ""),
        addresses=block.one("addresses", _strings, ()),
        ports=block.one("ports", _integers, ()),
        span=statement.span,
    )
    block.done()
    return made


def _workload(statement: Statement) -> Workload:
    arguments, block = Arguments(statement), _Block(statement.block)
    made = Workload(
        name=_ended(arguments, arguments.string()),
        namespace=block.one("namespace", _string, ""),
        service_account=block.one("service_account", _string, "default"),
        labels=block.all("label", _pair),
        addresses=block.one("addresses", _strings, ()),
        cgroup=block.one("cgroup", _string, ""),
        policies=block.one("policies", _strings, ()),
        span=statement.span,
    )
    block.done()
    return made


def _authz(statement: Statement) -> AuthzPolicy:
    arguments, block = Arguments(statement), _Block(statement.block)
    name = arguments.string()
    action = _ended(arguments, _member(arguments, AuthzAction))
    rules = block.all("rule", _authz_rule)
    block.done()
    return AuthzPolicy(name=name, action=action, rules=rules, span=statement.span)


def _authz_rule(statement: Statement) -> AuthzRule:
    Arguments(statement).end()
    block = _Block(statement.block)
    made = AuthzRule(
        sources=block.all("source", _match),
        operations=block.all("operation", _match),
        when=block.one("when", _match, Match()),
        span=statement.span,
    )
    block.done()
    return made
