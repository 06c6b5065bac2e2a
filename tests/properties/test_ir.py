"""What must hold for every policy, path and request."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from l7fp.diagnostics import Diagnostics
from l7fp.ir import edits, passes
from l7fp.ir.conditions import Stance, compile_condition
from l7fp.ir.interp import Decision, DecisionKind, Interpreter
from l7fp.ir.matching import compile_string
from l7fp.ir.model import Condition, HeaderEdits, PathNormalization, Policy, StringKind
from l7fp.ir.parser import parse_policy
from l7fp.ir.passes.classify import Slow, classify
from l7fp.ir.passes.implies import condition_implies
from l7fp.ir.passes.shadow import SHADOWED_RULE
from l7fp.ir.paths import is_plain, normalize, rewrite_hazards
from l7fp.ir.printer import print_policy
from l7fp.ir.request import Request, RequestView
from l7fp.ir.verify import verify
from tests import strategies as some

modes = st.sampled_from(PathNormalization)
relaxed = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(st.one_of(some.ugly_paths, some.targets, st.text(max_size=12)), modes)
def test_normalising_twice_is_normalising_once(target: str, mode: PathNormalization) -> None:
    once = normalize(target, mode)
    assert once is None or normalize(once, mode) == once


@given(st.one_of(some.plain_paths, some.ugly_paths, st.text(max_size=12)), modes, st.sampled_from(["", "?", "?a=//b"]))
def test_no_mode_touches_a_plain_path(path: str, mode: PathNormalization, query: str) -> None:
    assume(is_plain(path))
    assert normalize(path + query, mode) == path + query


@given(some.plain_paths)
def test_ordinary_paths_are_plain(path: str) -> None:
    assert is_plain(path)


@given(some.ugly_paths, modes)
def test_a_normal_path_climbs_nowhere(path: str, mode: PathNormalization) -> None:
    made = normalize(path, mode)
    assume(made is not None and mode is not PathNormalization.NONE)
    assert made is not None
    assert not {".", ".."} & set(made.partition("?")[0].split("/"))
    assert "\\" not in made.partition("?")[0]


@given(st.sampled_from(["/a", "/a/", "/", "/a/b"]), some.plain_paths, some.plain_paths, modes)
def test_what_is_no_hazard_can_be_spliced(prefix: str, value: str, path: str, mode: PathNormalization) -> None:
    assume(path.startswith(prefix))
    hazards = rewrite_hazards(prefix, value, mode)
    if not any(compile_string(h)(path) for h in hazards):
        spliced = value + path[len(prefix) :]
        assert normalize(spliced, mode) == spliced
        assert all(h.kind in (StringKind.EXACT, StringKind.PREFIX) for h in hazards)


@relaxed
@given(some.policies())
def test_policies_survive_being_printed(policy: Policy) -> None:
    assert parse_policy(print_policy(policy)) == policy


@relaxed
@given(some.policies())
def test_passes_keep_the_invariants_and_have_fixed_points(policy: Policy) -> None:
    assert verify(policy) == []

    def check(name: str, made: Policy) -> None:
        assert verify(made) == [], name
        assert dict(passes.PIPELINE)[name](made) == made, f"{name} twice is not {name} once"

    passes.run(policy, after=check)


@relaxed
@given(some.policies(), st.lists(some.requests, min_size=1, max_size=6), st.integers(0, 10_000))
def test_no_pass_changes_a_decision(policy: Policy, requests: list[Request], seed: int) -> None:
    made = passes.run(policy)
    before, after = Interpreter(policy), Interpreter(made)
    for request in requests:
        assert _essence(before, request, seed) == _essence(after, request, seed)


def _essence(interpreter: Interpreter, request: Request, seed: int) -> tuple[object, ...]:
    d = interpreter.decide(request, pick=lambda n: seed % n)
    upstream = d.response_edits, d.timeout_ms, d.retry, d.cluster, d.endpoint
    rule = d.rule.name if d.rule else None
    return d.kind, d.status, d.code, rule, d.request, d.reply_headers, d.reply_body, d.policy, *upstream


@relaxed
@given(some.policies(), some.requests, st.integers(0, 10_000))
def test_a_trail_explains_the_decision_and_changes_nothing(policy: Policy, request: Request, seed: int) -> None:
    interpreter = Interpreter(policy)

    def decide(trace: bool) -> Decision:
        return interpreter.decide(request, pick=lambda n: seed % n, trace=trace)

    plain, traced = decide(False), decide(True)
    assert plain.trail == ()
    assert traced.trail
    if traced.rule is not None:
        held = [
            s for s in traced.trail if s.outcome and s.text.startswith(f"{traced.rule.name} ") and "holds" in s.text
        ]
        assert len(held) == 1
    assert _without_trail(plain) == _without_trail(traced)


def _without_trail(decision: Decision) -> tuple[object, ...]:
    return tuple(getattr(decision, name) for name in decision.__dataclass_fields__ if name != "trail")


@relaxed
@given(some.policies(), some.requests, st.integers(0, 10_000))
def test_decisions_are_well_formed(policy: Policy, request: Request, seed: int) -> None:
    decision = Interpreter(policy).decide(request, pick=lambda n: seed % n)
    if decision.kind is DecisionKind.FORWARD:
        assert decision.status == 0
        assert decision.destination is not None
        assert decision.destination.weight > 0
        assert decision.endpoint is not None
        assert decision.endpoint.weight > 0
        sent = decision.request.target
        assert normalize(sent, policy.path_normalization) == sent
    else:
        assert decision.status >= 200
        assert decision.response_edits == ()
    if decision.reply_body:
        assert "content-type" in dict(decision.reply_headers)


@relaxed
@given(some.policies(), st.lists(some.requests, min_size=1, max_size=6))
def test_a_rule_reported_as_shadowed_is_never_chosen(policy: Policy, requests: list[Request]) -> None:
    found = Diagnostics()
    passes.findings(policy, found)
    shadowed = {d.message.partition(" is never")[0] for d in found if d.code == SHADOWED_RULE}
    interpreter = Interpreter(policy)
    for request in requests:
        decision = interpreter.decide(request)
        assert decision.rule is None or decision.rule.name not in shadowed


@relaxed
@given(st.lists(some.conditions, min_size=2, max_size=8), st.lists(some.requests, min_size=1, max_size=5))
def test_an_implied_condition_holds(conditions: list[Condition], requests: list[Request]) -> None:
    pairs = [(a, b) for a in conditions for b in conditions if a is not b and condition_implies(a, b)]
    for request in requests:
        view = RequestView(request, request.port, request.destination_ip)
        for given_, wanted in pairs:
            if compile_condition(given_, Stance.ROUTE)(view):
                assert compile_condition(wanted, Stance.ROUTE)(view)


@given(
    st.lists(some.header_edits, max_size=4),
    st.lists(st.tuples(st.sampled_from(some.HEADERS), st.sampled_from(some.HEADER_VALUES)), max_size=4),
)
def test_combined_edits_do_what_the_sequence_does(sequence: list[HeaderEdits], headers: list[tuple[str, str]]) -> None:
    one_by_one = tuple(headers)
    for edit in sequence:
        one_by_one = edits.apply(edit, one_by_one)
    at_once = edits.apply(edits.combine(*sequence), tuple(headers))
    for name in some.HEADERS:
        assert [v for n, v in one_by_one if n == name] == [v for n, v in at_once if n == name]


@relaxed
@given(some.policies())
def test_every_rule_and_policy_is_placed_and_reasons_say_why(policy: Policy) -> None:
    placed = classify(policy)
    assert set(placed.rules) == {r.name for t in policy.tables for h in t.virtual_hosts for r in h.rules}
    assert set(placed.authz) == {p.name for p in policy.authz}
    for placement in (*placed.rules.values(), *placed.authz.values()):
        if isinstance(placement, Slow):
            assert placement.reasons
            assert all(r.message and r.hint for r in placement.reasons)
