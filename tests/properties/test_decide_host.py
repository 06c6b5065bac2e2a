"""The generated tables under the kernel's C code decide as the interpreter does, or divert."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from l7fp import abi
from l7fp.codegen.plan import Plan, build
from l7fp.codegen.sources import workload_bits
from l7fp.ir import passes, paths
from l7fp.ir.interp import Decision, DecisionKind, Interpreter, Request, Source
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
    Match,
    PathNormalization,
    PathRewrite,
    Policy,
    PortMatch,
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
from tests.hostc import HostC, Result

NOTHING_IS_SLOW = Classification(rules={}, authz={})
HOSTS = ("a.b", "a.b", "A.B:80", "x.b", "y.x.b:8080", "a.b:8080", "c", ".b")
DOMAINS = ("a.b", "a.b:80", "*.b", "*.x.b", "c", "*", "*.b:8080")
PIECES = ("/", "a", "b", "api", "/api", "/a", "x", ".", "..", "-", "%2f", "=")
METHODS = ("GET", "POST", "PUT")
HEADERS = ("x-a", "x-b", "cookie")
VALUES = ("", "v", "v1", "1v", "V", "w")
WORKLOADS = (
    Workload(name="n/one", namespace="n", service_account="sa1", labels=(("app", "one"),)),
    Workload(name="m/two", namespace="m", service_account="sa2", labels=(("app", "two"),)),
)
ADDRESSES = ("10.0.0.1", "10.1.2.3", "fd00::1", "192.168.0.9")

path_texts = st.lists(st.sampled_from(PIECES), max_size=4).map(lambda p: "/" + "".join(p).lstrip("/"))
plain_pieces = st.lists(st.sampled_from(["a", "b", "api", "x", "-", "a.b", "="]), max_size=3)
plain_paths = st.builds(
    lambda pieces, end: "/" + "/".join(pieces) + end * bool(pieces), plain_pieces, st.sampled_from(["", "", "/"])
)
string_kinds = st.sampled_from(
    [StringKind.EXACT, StringKind.PREFIX, StringKind.SUFFIX, StringKind.CONTAINS, StringKind.PRESENT]
)


def strings(values: st.SearchStrategy[str]) -> st.SearchStrategy[StringMatch]:
    return st.builds(
        lambda kind, value, fold: StringMatch(kind, "" if kind is StringKind.PRESENT else value, fold),
        string_kinds,
        values,
        st.booleans(),
    )


templates = st.sampled_from(["/{*}", "/a/{*}", "/{*}/b", "/a/{**}", "/{*}/{**}", "/{**}/b", "/api/{*}/x"]).map(
    lambda text: StringMatch(StringKind.PATH_TEMPLATE, text)
)
regexes = st.sampled_from(["/a.*", "/api/(x|b)", "/a/?b"]).map(lambda text: StringMatch(StringKind.REGEX, text))


def condition(field: Field, matchers: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[Condition]:
    return st.builds(
        lambda any_of, negate: Condition(field=field, any_of=tuple(any_of), negate=negate),
        st.lists(matchers, min_size=1, max_size=most),
        st.sampled_from([False, False, True]),
    )


path_conditions = condition(Field(FieldKind.PATH), st.one_of(strings(plain_paths), strings(plain_paths), templates))
path_or_regex = st.one_of(path_conditions, path_conditions, condition(Field(FieldKind.PATH), regexes, 1))
other_conditions = st.one_of(
    condition(Field(FieldKind.METHOD), strings(st.sampled_from(METHODS))),
    condition(Field(FieldKind.AUTHORITY), strings(st.sampled_from([*HOSTS, "b", "a"]))),
    *(condition(Field(FieldKind.HEADER, name), strings(st.sampled_from(VALUES))) for name in HEADERS),
    condition(Field(FieldKind.QUERY, "q"), strings(st.sampled_from(VALUES))),
    condition(Field(FieldKind.DESTINATION_PORT), st.sampled_from([80, 81, 9080]).map(PortMatch)),
    condition(Field(FieldKind.SOURCE_NAMESPACE), strings(st.sampled_from(["n", "m"]))),
    condition(Field(FieldKind.SOURCE_PRINCIPAL), strings(st.sampled_from([w.principal for w in WORKLOADS]))),
    condition(Field(FieldKind.SOURCE_LABEL, "app"), strings(st.sampled_from(["one", "two"]))),
    condition(
        Field(FieldKind.SOURCE_IP), st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "::/0"]).map(CidrMatch)
    ),
    condition(Field(FieldKind.SCHEME), strings(st.just("http")), 1),
)
conditions = st.one_of(path_or_regex, path_or_regex, other_conditions)
matches = st.lists(conditions, max_size=3).map(lambda c: Match(conditions=tuple(c)))
match_lists = st.lists(matches, max_size=2).map(tuple)

header_pairs = st.tuples(st.sampled_from(HEADERS), st.sampled_from(["v", "1", ""])).map(lambda p: (p[0], p[1] or "v"))
edits = st.builds(
    lambda remove, put, add: HeaderEdits(remove=tuple(dict.fromkeys(remove)), set=tuple(put), add=tuple(add)),
    st.lists(st.sampled_from(HEADERS), max_size=1),
    st.lists(header_pairs, max_size=1),
    st.lists(header_pairs, max_size=1),
)
some_edits = st.one_of(st.just(HeaderEdits()), st.just(HeaderEdits()), edits)
CLUSTERS = ("one", "two", "mixed", "none")
rewrites = st.one_of(
    st.none(),
    st.builds(
        lambda kind, value: PathRewrite(kind=kind, value=value),
        st.sampled_from([RewriteKind.PREFIX, RewriteKind.PREFIX, RewriteKind.FULL]),
        plain_paths,
    ),
)
routes = st.builds(
    lambda destinations, rewrite, authority, request, response: Route(
        destinations=tuple(destinations),
        path_rewrite=rewrite,
        authority_rewrite=authority,
        request_headers=request,
        response_headers=response,
    ),
    st.lists(
        st.builds(
            lambda cluster, weight, request, response: Destination(
                cluster=cluster, weight=weight, request_headers=request, response_headers=response
            ),
            st.sampled_from(CLUSTERS),
            st.sampled_from([0, 1, 1, 2]),
            some_edits,
            some_edits,
        ),
        min_size=1,
        max_size=3,
    ),
    rewrites,
    st.sampled_from([None, None, "z.b"]),
    some_edits,
    some_edits,
)
redirects = st.builds(
    lambda scheme, authority, port, path, prefix, response: Redirect(
        scheme=scheme, authority=authority, port=port, path=path, prefix_rewrite=prefix, response_headers=response
    ),
    st.sampled_from([None, "http", "https"]),
    st.sampled_from([None, "z.b"]),
    st.sampled_from([None, 81]),
    st.one_of(st.none(), plain_paths, st.just("/p?k=1")),
    st.one_of(st.none(), plain_paths),
    some_edits,
)
direct = st.builds(
    lambda status, body, response: DirectResponse(status=status, body=body, response_headers=response),
    st.sampled_from([200, 201, 302, 404, 503]),
    st.sampled_from(["", "text"]),
    some_edits,
)
actions = st.one_of(routes, routes, redirects, direct)
authz_policies = st.lists(
    st.builds(
        lambda action, rules: (action, tuple(rules)),
        st.sampled_from([AuthzAction.ALLOW, AuthzAction.DENY, AuthzAction.AUDIT]),
        st.lists(
            st.builds(
                lambda sources, operations, when: AuthzRule(sources=sources, operations=operations, when=when),
                match_lists,
                match_lists,
                matches,
            ),
            max_size=2,
        ),
    ),
    max_size=3,
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy with up to two virtual hosts on port 80."""
    domains = draw(st.permutations(DOMAINS))[: draw(st.integers(2, len(DOMAINS)))]
    cut = draw(st.integers(1, len(domains)))
    hosts = []
    for n, own in enumerate((domains[:cut], domains[cut:])):
        made = draw(st.lists(st.tuples(match_lists, actions), max_size=4))
        made.append(((), draw(actions)))
        rules = tuple(Rule(name=f"v{n}/r{i}", matches=m, action=a) for i, (m, a) in enumerate(made))
        if own:
            hosts.append(VirtualHost(name=f"v{n}", domains=tuple(own), rules=rules))
    authz = tuple(
        AuthzPolicy(name=f"p/{n}", action=action, rules=rules)
        for n, (action, rules) in enumerate(draw(st.one_of(st.just([]), authz_policies)))
    )
    guarded = Workload(name="s/guarded", namespace="s", policies=tuple(p.name for p in authz))
    endpoint = Endpoint(address="10.9.0.1", port=9080, workload="s/guarded")
    free = Endpoint(address="10.9.0.2", port=9080)
    return Policy(
        tables=(RouteTable(port=80, virtual_hosts=tuple(hosts)),),
        clusters=(
            Cluster(name="mixed", host="m", port=80, endpoints=(endpoint, free)),
            Cluster(name="one", host="o", port=80, endpoints=(endpoint,)),
            Cluster(
                name="two",
                host="t",
                port=80,
                endpoints=(endpoint, Endpoint(address="10.9.0.3", port=81, workload="s/guarded")),
            ),
        ),
        workloads=(guarded, *WORKLOADS),
        authz=authz,
        path_normalization=draw(st.sampled_from(PathNormalization)),
    )


@dataclass(frozen=True)
class Sent:
    """One request and who sends it; `random` picks the destination."""

    request: Request
    workload: Workload | None
    random: int


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    query = draw(st.sampled_from(["", "", "?", "?q=v", "?q", "?x=1&q=v1", "?q=v&q=w", "?Q=v"]))
    workload = draw(st.sampled_from([None, *WORKLOADS]))
    names = draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    return Sent(
        Request(
            port=80,
            method=draw(st.sampled_from(METHODS)),
            target=draw(st.one_of(plain_paths, plain_paths, plain_paths, path_texts)) + query,
            authority=draw(st.sampled_from(HOSTS)),
            headers=tuple((name, draw(st.sampled_from(VALUES))) for name in names),
            source=Source(
                workload=workload.name if workload else "",
                namespace=workload.namespace if workload else "",
                principal=workload.principal if workload else "",
                labels=workload.labels if workload else (),
                ip=draw(st.sampled_from(ADDRESSES)),
            ),
        ),
        workload,
        draw(st.integers(0, 2**32 - 1)),
    )


def wire(request: Request) -> bytes:
    """The request as bytes, header names in odd case."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.authority}"]
    lines += [f"{name.title()}: {value}" for name, value in request.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse(data: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = [line.split(":", 1) for line in lines]
    return first, [(name.lower(), value.strip()) for name, value in pairs], body


def grouped(headers: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Values by name: order counts among values of one name only."""
    out: dict[str, list[str]] = {}
    for name, value in headers:
        out.setdefault(name, []).append(value)
    return out


def run(host: HostC, plan: Plan, sent: Sent) -> Result:
    address = ipaddress.ip_address(sent.request.source.ip)
    ip_bits = 0
    for n, text in enumerate(plan.source_ip_atoms):
        network = ipaddress.ip_network(text)
        ip_bits |= (address.version == network.version and address in network) << n
    bits = workload_bits(plan.source_atoms, sent.workload) if sent.workload else 0
    return host.request(wire(sent.request), source_bits=bits, source_ip_bits=ip_bits, random=sent.random)


def share(random: int, n: int) -> int:
    """The C code's choice among n."""
    return random * n >> 32


def agree(decision: Decision, result: Result, plan: Plan) -> None:
    """The C code's outcome, which is no diversion, is the interpreter's."""
    assert result.rule_name == (decision.rule.name if decision.rule else "(no route)")
    first, headers, body = parse(result.data)
    assert result.edited == 0
    if result.verdict is abi.Verdict.REPLY:
        assert decision.kind is DecisionKind.REPLY
        assert first.split(" ")[1] == str(decision.status)
        got = grouped(headers)
        assert got.pop("content-length", ["0"]) == [str(len(decision.reply_body))]
        got.pop("server")
        assert got == grouped(list(decision.reply_headers))
        assert body.decode() == decision.reply_body
        return
    assert result.dest is not None
    info = plan.dests[result.dest]
    assert isinstance(decision.rule, Rule)
    assert isinstance(decision.rule.action, Route)
    assert decision.destination is decision.rule.action.destinations[info.position]
    if decision.code in ("cluster_not_found", "no_healthy_upstream"):
        return  # the hook finds no endpoint and diverts
    assert decision.kind is DecisionKind.FORWARD
    assert first == f"{decision.request.method} {decision.request.target} HTTP/1.1"
    assert grouped(headers) == grouped([("host", decision.request.authority), *decision.request.headers])


@pytest.mark.parametrize("classified", [True, False])
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(policy=policies(), sample=st.lists(requests(), min_size=1, max_size=12))
def test_generated_code_decides_as_the_interpreter_or_diverts(
    classified: bool, policy: Policy, sample: list[Sent]
) -> None:
    """`classified` False: nothing is called slow beforehand, so planning alone has to find what can't be done."""
    if classified:
        policy = passes.run(policy)
    plan = build(policy, classify(policy) if classified else NOTHING_IS_SLOW)
    host, interpreter = HostC(plan), Interpreter(policy)
    for sent in sample:
        result = run(host, plan, sent)
        event(f"{result.verdict.name} {result.reason.name}")
        if result.verdict is not abi.Verdict.DIVERT:
            assert paths.is_plain(sent.request.path)
            agree(interpreter.decide(sent.request, pick=partial(share, sent.random)), result, plan)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?"), max_size=12))
@example("/[")
@example("/a|b")
@example('/a"')
def test_a_path_that_is_not_plain_always_diverts(text: str) -> None:
    vhost = VirtualHost(name="v", domains=("*",), rules=(Rule(name="r", action=DirectResponse(status=200)),))
    policy = Policy(tables=(RouteTable(port=80, virtual_hosts=(vhost,)),))
    host = HostC(build(policy, NOTHING_IS_SLOW))
    result = host.request(f"GET {text} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    plain = paths.is_plain(text)
    assert (result.verdict is abi.Verdict.REPLY) == plain
