"""Small policies for tests, in few words."""

from __future__ import annotations

from l7fp.codegen.plan import Plan, build
from l7fp.ir.model import (
    Action,
    AuthzAction,
    AuthzPolicy,
    AuthzRule,
    Cluster,
    Condition,
    Destination,
    DirectResponse,
    Endpoint,
    Field,
    FieldKind,
    HeaderEdits,
    Match,
    Matcher,
    PathRewrite,
    Policy,
    Redirect,
    RewriteKind,
    Route,
    RouteTable,
    Rule,
    StringKind,
    StringMatch,
    VirtualHost,
    Workload,
)
from l7fp.ir.passes.classify import Classification, classify


def exact(value: str, *, fold: bool = False) -> StringMatch:
    return StringMatch(StringKind.EXACT, value, fold)


def prefix(value: str, *, fold: bool = False) -> StringMatch:
    return StringMatch(StringKind.PREFIX, value, fold)


def suffix(value: str) -> StringMatch:
    return StringMatch(StringKind.SUFFIX, value)


def contains(value: str) -> StringMatch:
    return StringMatch(StringKind.CONTAINS, value)


def regex(value: str) -> StringMatch:
    return StringMatch(StringKind.REGEX, value)


def when(kind: FieldKind, *any_of: Matcher, name: str = "", negate: bool = False) -> Condition:
    return Condition(field=Field(kind, name), any_of=any_of, negate=negate)


def path(*any_of: Matcher, negate: bool = False) -> Condition:
    return when(FieldKind.PATH, *any_of, negate=negate)


def header(name: str, *any_of: Matcher, negate: bool = False) -> Condition:
    return when(FieldKind.HEADER, *any_of, name=name, negate=negate)


def rule(name: str, action: Action, *matches: tuple[Condition, ...]) -> Rule:
    return Rule(name=name, action=action, matches=tuple(Match(conditions=m) for m in matches))


def say(body: str, status: int = 200) -> DirectResponse:
    return DirectResponse(status=status, body=body)


def to(*clusters: str) -> Route:
    return Route(destinations=tuple(Destination(cluster=c) for c in clusters))


def policy(*rules: Rule, authz: tuple[AuthzPolicy, ...] = (), domains: tuple[str, ...] = ("*",)) -> Policy:
    """One virtual host on port 80; clusters `one` and `two`, whose endpoints `authz` guards."""
    host = VirtualHost(name="v", domains=domains, rules=rules)
    return Policy(
        tables=(RouteTable(port=80, virtual_hosts=(host,)),),
        clusters=(
            Cluster(
                name="one", host="one", port=80, endpoints=(Endpoint(address="10.0.0.1", port=80, workload="s/w"),)
            ),
            Cluster(
                name="two", host="two", port=80, endpoints=(Endpoint(address="10.0.0.2", port=80, workload="s/w"),)
            ),
        ),
        workloads=(Workload(name="s/w", namespace="s", policies=tuple(p.name for p in authz)),),
        authz=authz,
    )


def deny(name: str, *operations: tuple[Condition, ...]) -> AuthzPolicy:
    rules = (AuthzRule(operations=tuple(Match(conditions=c) for c in operations)),)
    return AuthzPolicy(name=name, action=AuthzAction.DENY, rules=rules)


def allow(name: str, *operations: tuple[Condition, ...]) -> AuthzPolicy:
    rules = (AuthzRule(operations=tuple(Match(conditions=c) for c in operations)),) if operations else ()
    return AuthzPolicy(name=name, action=AuthzAction.ALLOW, rules=rules)


def planned(made: Policy) -> Plan:
    """The plan, classified as in earnest."""
    return build(made, classify(made))


def all_kernel(made: Policy) -> Plan:
    """The plan when classification objects to nothing: what planning finds for itself."""
    return build(made, Classification(rules={}, authz={}))


def sample() -> Policy:
    """A policy with something of everything."""
    return policy(
        rule("r/deny-doc", say("no", 403), (path(suffix(".doc")), header("x-user", exact("guest")))),
        rule(
            "r/api",
            Route(
                destinations=(
                    Destination(cluster="one", weight=3),
                    Destination(cluster="two", weight=1, request_headers=HeaderEdits(add=(("x-canary", "1"),))),
                ),
                path_rewrite=PathRewrite(kind=RewriteKind.PREFIX, value="/v2"),
                authority_rewrite="internal",
                request_headers=HeaderEdits(remove=("x-debug",), set=(("x-by", "l7fp"),)),
                response_headers=HeaderEdits(remove=("server-timing",)),
                timeout_ms=1500,
            ),
            (path(prefix("/api")), when(FieldKind.METHOD, exact("GET"))),
            (path(exact("/api-post")), when(FieldKind.METHOD, exact("POST"))),
        ),
        rule("r/old", Redirect(status=308, authority="new.example", prefix_rewrite="/n"), (path(prefix("/old")),)),
        rule("r/query", say("q"), (when(FieldKind.QUERY, exact("1"), name="debug"),)),
        rule("r/slow", to("one"), (path(regex("/users/[0-9]+")),)),
        rule("r/rest", to("one")),
        authz=(
            deny("s/no-admin", (path(prefix("/v2/admin")),)),
            AuthzPolicy(
                name="s/namespaces",
                action=AuthzAction.ALLOW,
                rules=(AuthzRule(sources=(Match(conditions=(when(FieldKind.SOURCE_NAMESPACE, exact("web")),)),)),),
            ),
        ),
        domains=("shop.example", "shop.example:80", "*.shop.example"),
    )
