"""Hypothesis strategies for policies and requests.

Values come from small pools, so that requests meet the policies they are drawn for: a random path would
never match a random rule.
"""

from __future__ import annotations

from hypothesis import strategies as st

from l7fp.ir.model import (
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
from l7fp.ir.request import Request, Source
from l7fp.source import NOWHERE, Span

SEGMENTS = ("a", "b", "api", "v1", "A", "x-1", "a.b", "~u")
HEADERS = ("x-a", "x-b", "cookie")
HEADER_VALUES = ("", "v", "v1", "V", "w,v", "user=jason", "\udcff")
QUERY_NAMES = ("q", "r")
METHODS = ("GET", "POST", "DELETE")
HOSTS = ("a.b", "x.a.b", "c", "y.z")
DOMAINS = ("a.b", "a.b:80", "x.a.b", "*.a.b", "*.b", "c", "*")
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "192.168.1.7/32", "fd00::/8")
ADDRESSES = ("10.1.2.3", "192.168.1.7", "fd00::7", "::ffff:10.9.9.9", "")
NAMESPACES = ("n", "m")
CLUSTERS = ("c0", "c1", "c2")
WORKLOADS = ("w0", "w1")
POLICIES = ("n/p0", "n/p1", "n/p2")
REGEXES = ("/a.*", "(a|b)+", "/api/v[0-9]+", "v?", "[^/]*")
TEMPLATES = ("/{*}", "/a/{*}", "/{*}/b", "/a/{**}", "/{**}/b", "/{*}/{**}")

spans = st.one_of(
    st.just(NOWHERE),
    st.builds(
        Span,
        st.sampled_from(["a.yaml", "dir/b.yaml", "odd name:1@2.yaml", "<stdin>", 'q"uote']),
        st.integers(1, 99),
        st.integers(1, 99),
        st.integers(1, 99),
        st.integers(1, 99),
    ),
)


def _distinct(values: tuple[str, ...], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True).map(tuple)


plain_paths = st.builds(
    lambda segments, end: "/" + "/".join(segments) + (end if segments else ""),
    st.lists(st.sampled_from(SEGMENTS), max_size=3),
    st.sampled_from(["", "", "/"]),
)
"""Paths that every normalisation leaves alone."""

ugly_paths = st.lists(
    st.sampled_from(
        [
            "/",
            "//",
            "a",
            "b",
            "api",
            ".",
            "..",
            "%2f",
            "%2F",
            "%5c",
            "\\",
            "%2e",
            "%41",
            "%",
            "%4",
            "2f",
            "41",
            ";",
            "%00",
            "%25",
            '"',
            "|",
            "[",
            "%7e",
            "#",
        ]
    ),
    max_size=8,
).map(lambda parts: "/" + "".join(parts))


def text_matches(
    values: tuple[str, ...] | st.SearchStrategy[str], kinds: tuple[StringKind, ...]
) -> st.SearchStrategy[Matcher]:
    """Matchers of `kinds` over a pool of values."""
    pool = st.sampled_from(values) if isinstance(values, tuple) else values

    def one(kind: StringKind) -> st.SearchStrategy[Matcher]:
        match kind:
            case StringKind.PRESENT:
                return st.just(StringMatch(StringKind.PRESENT))
            case StringKind.REGEX:
                return st.sampled_from(REGEXES).map(lambda v: StringMatch(StringKind.REGEX, v))
            case StringKind.PATH_TEMPLATE:
                return st.sampled_from(TEMPLATES).map(lambda v: StringMatch(StringKind.PATH_TEMPLATE, v))
            case _:
                return st.builds(StringMatch, st.just(kind), pool, st.sampled_from([False, False, True]))

    return st.sampled_from(kinds).flatmap(one)


_TEXT = (
    StringKind.EXACT,
    StringKind.PREFIX,
    StringKind.SUFFIX,
    StringKind.CONTAINS,
    StringKind.PRESENT,
    StringKind.REGEX,
)
_PATH = (StringKind.EXACT, StringKind.PREFIX, StringKind.PREFIX, *_TEXT, StringKind.PATH_TEMPLATE)


def _condition(field: Field, matchers: st.SearchStrategy[Matcher]) -> st.SearchStrategy[Condition]:
    return st.builds(
        lambda any_of, negate, span: Condition(field=field, any_of=tuple(any_of), negate=negate, span=span),
        st.lists(matchers, min_size=1, max_size=2),
        st.sampled_from([False, False, True]),
        spans,
    )


path_conditions = _condition(Field(FieldKind.PATH), text_matches(plain_paths, _PATH))
conditions = st.one_of(
    path_conditions,
    path_conditions,
    _condition(Field(FieldKind.METHOD), text_matches(METHODS, _TEXT)),
    _condition(Field(FieldKind.AUTHORITY), text_matches((*HOSTS, "a.b:80", "b"), _TEXT)),
    _condition(Field(FieldKind.SCHEME), text_matches(("http", "https"), _TEXT)),
    *(_condition(Field(FieldKind.HEADER, name), text_matches(HEADER_VALUES, _TEXT)) for name in HEADERS),
    *(_condition(Field(FieldKind.QUERY, name), text_matches(("", "1", "12"), _TEXT)) for name in QUERY_NAMES),
    _condition(Field(FieldKind.SOURCE_IP), st.sampled_from(NETWORKS).map(CidrMatch)),
    _condition(Field(FieldKind.REMOTE_IP), st.sampled_from(NETWORKS).map(CidrMatch)),
    _condition(Field(FieldKind.DESTINATION_IP), st.sampled_from(NETWORKS).map(CidrMatch)),
    _condition(Field(FieldKind.DESTINATION_PORT), st.sampled_from([80, 81, 9080]).map(PortMatch)),
    _condition(Field(FieldKind.SOURCE_NAMESPACE), text_matches(NAMESPACES, _TEXT)),
    _condition(Field(FieldKind.SOURCE_PRINCIPAL), text_matches(("cluster.local/ns/n/sa/s",), _TEXT)),
    _condition(Field(FieldKind.SOURCE_LABEL, "app"), text_matches(("one", "two"), _TEXT)),
    _condition(Field(FieldKind.REQUEST_PRINCIPAL), text_matches(("i/s",), _TEXT)),
    _condition(Field(FieldKind.SNI), text_matches(("a.b",), _TEXT)),
)
matches = st.builds(
    lambda found, span: Match(conditions=tuple(found), span=span), st.lists(conditions, max_size=3), spans
)

_header_pairs = st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES)), max_size=2).map(tuple)
header_edits = st.one_of(
    st.just(HeaderEdits()),
    st.builds(
        lambda r, s, a: HeaderEdits(remove=r, set=s, add=a), _distinct(HEADERS, most=2), _header_pairs, _header_pairs
    ),
)
destinations = st.builds(
    lambda cluster, weight, request, response, span: Destination(
        cluster=cluster, weight=weight, request_headers=request, response_headers=response, span=span
    ),
    st.sampled_from(CLUSTERS),
    st.sampled_from([0, 1, 1, 10, 99]),
    header_edits,
    header_edits,
    spans,
)
path_rewrites = st.one_of(
    st.builds(
        lambda kind, value: PathRewrite(kind=kind, value=value),
        st.sampled_from([RewriteKind.PREFIX, RewriteKind.FULL]),
        plain_paths,
    ),
    st.builds(
        lambda regex, value: PathRewrite(kind=RewriteKind.REGEX, value=value, regex=regex),
        st.sampled_from(["/(a|b)", "^/api", "v[0-9]"]),
        st.sampled_from(["/z", "/r\\0", ""]),
    ),
)
retries = st.builds(
    lambda attempts, on, codes, limit: RetryPolicy(
        attempts=attempts, on=tuple(sorted(on)), status_codes=codes, per_try_timeout_ms=limit
    ),
    st.integers(0, 3),
    _distinct(("5xx", "connect-failure", "refused-stream", "reset", "retriable-status-codes")),
    st.sampled_from([(), (503,), (502, 503)]),
    st.sampled_from([None, 100]),
)
routes = st.builds(
    lambda to, path, authority, timeout, retry, request, response: Route(
        destinations=tuple(to),
        path_rewrite=path,
        authority_rewrite=authority,
        timeout_ms=timeout,
        retry=retry,
        request_headers=request,
        response_headers=response,
    ),
    st.lists(destinations, min_size=1, max_size=3),
    st.one_of(st.none(), path_rewrites),
    st.sampled_from([None, None, "r.s", "r.s:81"]),
    st.sampled_from([None, 1, 15000]),
    st.one_of(st.none(), retries),
    header_edits,
    header_edits,
)
redirects = st.builds(
    lambda status, scheme, authority, port, path, edits: Redirect(
        status=status,
        scheme=scheme,
        authority=authority,
        port=port,
        path=path[0],
        prefix_rewrite=path[1],
        response_headers=edits,
    ),
    st.sampled_from([301, 302, 307]),
    st.sampled_from([None, "http", "https"]),
    st.sampled_from([None, "r.s"]),
    st.sampled_from([None, 8443]),
    st.sampled_from([(None, None), ("/p", None), ("/p?z=1", None), (None, "/p"), (None, "/")]),
    header_edits,
)
direct_responses = st.builds(
    lambda status, body, edits: DirectResponse(status=status, body=body, response_headers=edits),
    st.sampled_from([200, 201, 204, 302, 418, 503]),
    st.sampled_from(["", "no\n", "\u00e9"]),
    header_edits,
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies that `verify` has nothing against."""
    used = draw(st.lists(st.sampled_from([80, 81, 9080]), min_size=1, max_size=2, unique=True))
    number = 0
    tables = []
    for port in sorted(used):
        hosts = []
        for domain in draw(_distinct(DOMAINS, 1, 3)):
            rules = []
            for _ in range(draw(st.integers(1, 4))):
                action = draw(st.one_of(routes, routes, redirects, direct_responses))
                found = draw(st.lists(matches, max_size=2).map(tuple))
                rules.append(Rule(name=f"r{number}", matches=found, action=action, span=draw(spans)))
                number += 1
            addresses = draw(_distinct(("10.0.0.1", "fd00::1"), most=1))
            hosts.append(
                VirtualHost(name=domain, domains=(domain,), rules=tuple(rules), addresses=addresses, span=draw(spans))
            )
        tables.append(RouteTable(port=port, virtual_hosts=tuple(hosts)))
    return Policy(
        tables=tuple(tables),
        clusters=tuple(draw(clusters(name)) for name in CLUSTERS),
        services=(Service(host="a.b", namespace="n", addresses=("10.0.0.1",), ports=tuple(sorted(used))),),
        workloads=tuple(draw(workloads(name)) for name in WORKLOADS),
        authz=tuple(draw(authz_policies(name)) for name in POLICIES),
        path_normalization=draw(st.sampled_from(PathNormalization)),
    )


@st.composite
def clusters(draw: st.DrawFn, name: str) -> Cluster:
    """A cluster of up to three endpoints, some guarded."""
    ends = draw(
        st.lists(
            st.builds(
                lambda host, port, workload, weight: Endpoint(
                    address=f"10.8.0.{host}", port=port, workload=workload, weight=weight
                ),
                st.integers(1, 9),
                st.sampled_from([80, 9080]),
                st.sampled_from(["", *WORKLOADS]),
                st.sampled_from([1, 1, 0, 5]),
            ),
            max_size=3,
        )
    )
    return Cluster(
        name=name,
        host="a.b",
        port=80,
        subset=draw(st.sampled_from(["", "v1"])),
        load_balancer=draw(st.sampled_from(LoadBalancer)),
        endpoints=tuple(ends),
        connect_timeout_ms=draw(st.sampled_from([10_000, 250])),
        span=draw(spans),
    )


def workloads(name: str) -> st.SearchStrategy[Workload]:
    """A workload with up to two policies."""
    return st.builds(
        lambda policies, labels, cgroup, span: Workload(
            name=name,
            namespace="n",
            labels=labels,
            cgroup=cgroup,
            policies=policies,
            addresses=("10.8.0.1",),
            span=span,
        ),
        _distinct(POLICIES, most=2),
        st.sampled_from([(), (("app", "one"), ("version", "v1"))]),
        st.sampled_from(["", "pod:7"]),
        spans,
    )


def authz_policies(name: str) -> st.SearchStrategy[AuthzPolicy]:
    """An authorization policy of up to two rules."""
    some = st.lists(matches, max_size=2).map(tuple)
    rules = st.builds(
        lambda sources, operations, when, span: AuthzRule(sources=sources, operations=operations, when=when, span=span),
        some,
        some,
        st.one_of(st.just(Match()), matches),
        spans,
    )
    return st.builds(
        lambda action, found, span: AuthzPolicy(name=name, action=action, rules=tuple(found), span=span),
        st.sampled_from(AuthzAction),
        st.lists(rules, max_size=2),
        spans,
    )


sources = st.builds(
    lambda namespace, app, ip, conflict: Source(
        workload=f"{namespace}/w" if namespace else "",
        namespace=namespace,
        principal=f"cluster.local/ns/{namespace}/sa/s" if namespace else "",
        labels=(("app", app),) if app else (),
        ip=ip,
        conflict=conflict,
    ),
    st.sampled_from(["", *NAMESPACES]),
    st.sampled_from(["", "one", "two"]),
    st.sampled_from(ADDRESSES),
    st.sampled_from([False, False, False, True]),
)
targets = st.builds(
    lambda path, query: path + query,
    st.one_of(plain_paths, plain_paths, ugly_paths),
    st.sampled_from(["", "", "?q=1", "?q=12&r", "?r=1&q=&q=1", "?", "?a//../b"]),
)
requests = st.builds(
    lambda port, method, target, authority, headers, source, destination_ip: Request(
        port=port,
        method=method,
        target=target,
        authority=authority,
        headers=tuple(headers),
        source=source,
        destination_ip=destination_ip,
    ),
    st.sampled_from([80, 81, 9080]),
    st.sampled_from(METHODS),
    targets,
    st.sampled_from([*HOSTS, "A.B", "a.b:80", "a.b.:9", "x.a.b:81", "[::1]:80"]),
    st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES)), max_size=3),
    sources,
    st.sampled_from(["", "10.0.0.1", "fd00::1"]),
)
