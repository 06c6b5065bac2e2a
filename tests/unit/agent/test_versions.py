"""Response edits of a transaction, by what the kernel noted about it."""

from __future__ import annotations

from l7fp import abi
from l7fp.ir.model import Destination, DirectResponse, HeaderEdits, Match, Policy, Route, RouteTable, Rule, VirtualHost
from slowpath.agent import versions
from slowpath.agent.versions import Versions

CANARY = HeaderEdits(set=(("x-canary", "1"),))
ROUTE = HeaderEdits(remove=("server",))


def policy() -> Policy:
    destinations = (Destination(cluster="a"), Destination(cluster="b", response_headers=CANARY))
    rules = (
        Rule(name="first", action=Route(destinations=destinations, response_headers=ROUTE), matches=(Match(), Match())),
        Rule(name="second", action=DirectResponse(status=200)),
    )
    host = VirtualHost(name="v", domains=("*",), rules=rules)
    return Policy(tables=(RouteTable(port=80, virtual_hosts=(host,)),))


def tables(timeout_ms: int = 0) -> dict[str, bytes]:
    rule = abi.BY_NAME["rule"]
    kernel_rules = [(0, 4), (0, 4), (1, 0), (99, 0)]  # two matches of the first, the second, and "no route"
    return {"rules": b"".join(rule.pack(counter=c, dest_first=d, timeout_ms=timeout_ms) for c, d in kernel_rules)}


def test_edits_are_the_destinations_then_the_routes() -> None:
    known = Versions()
    known.add(3, policy(), tables(), ("first", "second"))
    assert known.response_edits(3, 0, 4) == (ROUTE,)
    assert known.response_edits(3, 1, 5) == (CANARY, ROUTE)


def test_replies_and_the_rule_for_no_route_have_none() -> None:
    known = Versions()
    known.add(3, policy(), tables(), ("first", "second"))
    assert known.response_edits(3, 2, 0) == ()
    assert known.response_edits(3, 3, 0) == ()


def test_a_version_nobody_knows_is_not_the_same_as_no_edits() -> None:
    known = Versions()
    known.add(3, policy(), tables(), ("first", "second"))
    assert known.response_edits(2, 0, 4) is None
    assert known.response_edits(3, 40, 4) is None


def test_old_versions_go_when_there_are_many_and_they_are_large(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(versions, "KEEP_RULES", 80)
    known = Versions()
    for version in range(30):
        known.add(version, policy(), tables(), ("first", "second"))
    assert known.response_edits(9, 0, 4) is None
    assert known.response_edits(10, 0, 4) == (ROUTE,)


def test_whether_any_rule_has_a_deadline_is_remembered() -> None:
    known = Versions()
    known.add(1, policy(), tables(), ("first", "second"))
    assert not known.timeouts
    known.add(2, policy(), tables(timeout_ms=50), ("first", "second"))
    known.add(3, policy(), tables(), ("first", "second"))
    assert known.timeouts
