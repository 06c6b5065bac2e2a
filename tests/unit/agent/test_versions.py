"""Response edits of a transaction, by what the kernel noted about it."""

from __future__ import annotations

import pytest

from l7fp.ir.model import Destination, DirectResponse, HeaderEdits, Policy, Route, RouteTable, Rule, VirtualHost
from slowpath.agent import versions
from slowpath.agent.versions import Versions

CANARY = HeaderEdits(set=(("x-canary", "1"),))
ROUTE = HeaderEdits(remove=("server",))
DESTINATIONS = [("first", 0), ("first", 1), ("third", 0)]


def policy() -> Policy:
    split = (Destination(cluster="a"), Destination(cluster="b", response_headers=CANARY))
    rules = (
        Rule(name="first", action=Route(destinations=split, response_headers=ROUTE)),
        Rule(name="second", action=DirectResponse(status=200)),
        Rule(name="third", action=Route(destinations=(Destination(cluster="a"),))),
    )
    host = VirtualHost(name="v", domains=("*",), rules=rules)
    return Policy(tables=(RouteTable(port=80, virtual_hosts=(host,)),))


def test_edits_are_the_destinations_then_the_routes() -> None:
    known = Versions()
    known.add(3, policy(), DESTINATIONS)
    assert [known.response_edits(3, dest) for dest in range(3)] == [(ROUTE,), (CANARY, ROUTE), ()]


def test_what_nobody_knows_is_not_the_same_as_no_edits() -> None:
    known = Versions()
    known.add(3, policy(), DESTINATIONS)
    assert known.response_edits(2, 0) is None
    assert known.response_edits(3, 3) is None


def test_old_versions_go_when_there_are_many_and_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "KEEP_DESTINATIONS", 60)
    known = Versions()
    for version in range(30):
        known.add(version, policy(), DESTINATIONS)
    assert known.response_edits(9, 0) is None
    assert known.response_edits(10, 0) == (ROUTE,)
