"""What `l7fp status` says."""

from __future__ import annotations

from typing import Any

from l7fp.cli.output import Style
from l7fp.cli.status_verb import as_text, offload

PLAIN = Style(False)


def _status(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "instance": "l7fp",
        "loaded": True,
        "serving": True,
        "version": 3,
        "pid": 77,
        "uptime_s": 61.4,
        "connections": 5,
        "rules": [
            {"name": "shop/web/http[0]", "forwarded": 1200, "replied": 0, "diverted": 1},
            {"name": "shop/web/http[1]", "forwarded": 0, "replied": 0, "diverted": 0},
        ],
        "stats": {"forwarded": 1150, "replied": 50},
        "diverted": {"syntax": 1, "rule_slow": 299, "slow_mode": 4000},
        "proxy": {"requests": {"total": 300, "active": 0}},
        "endpoints": [],
    }
    found.update(changes)
    found["offload"] = offload(found)
    return found


def test_rules_that_were_used_and_reasons_most_frequent_first() -> None:
    assert as_text(_status(), PLAIN) == (
        "l7fp: version 3, process 77, up 61 s, 5 connections\n"
        "offload: 80.0 % of requests in the kernel\n"
        "rule              forwarded  replied  diverted\n"
        "shop/web/http[0]      1,200        0         1\n"
        "diverted because of: slow_mode 4,000, rule_slow 299, syntax 1"
    )


def test_before_the_first_request_there_is_no_share() -> None:
    fresh = _status(rules=[], diverted={}, stats={}, proxy={"requests": {"total": 0, "active": 0}})
    assert offload(fresh) is None
    assert "no requests yet" in as_text(fresh, PLAIN)


def test_the_share_is_of_requests_though_the_kernel_counts_messages() -> None:
    assert _status()["offload"] == 0.8


def test_loaded_but_not_served_says_what_that_means() -> None:
    text = as_text({"instance": "a", "loaded": True, "serving": False, "version": 2, "cgroup": "/c"}, PLAIN)
    assert text.startswith("a: version 2 is loaded on /c, but no process serves it: new connections")


def test_nothing_loaded() -> None:
    assert as_text({"instance": "a", "loaded": False, "serving": False}, PLAIN) == "a: nothing is loaded"


def test_servers_are_a_table() -> None:
    server = {"address": "10.0.0.1", "port": 80, "usable": True}
    assert as_text(_status(endpoints=[server]), PLAIN).endswith("address   port  usable\n10.0.0.1  80    True")
