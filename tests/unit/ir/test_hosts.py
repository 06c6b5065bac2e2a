"""The parts of a Host value."""

from __future__ import annotations

import pytest

from l7fp.ir.hosts import HostIndex, split_port
from l7fp.ir.model import RouteTable, VirtualHost


@pytest.mark.parametrize(
    ("authority", "parts"),
    [
        ("a.b", ("a.b", "")),
        ("a.b:80", ("a.b", ":80")),
        ("[::1]", ("[::1]", "")),
        ("[::1]:80", ("[::1]", ":80")),
        ("a.b:http", ("a.b:http", "")),
        ("a.b:", ("a.b:", "")),
        ("a.b:٣", ("a.b:٣", "")),
    ],
)
def test_a_port_is_a_number(authority: str, parts: tuple[str, str]) -> None:
    assert split_port(authority) == parts


@pytest.mark.parametrize("authority", ["a.b:http", "a.b:", ":80", "", "."])
def test_what_is_no_host_fits_no_domain(authority: str) -> None:
    index = HostIndex(RouteTable(port=80, virtual_hosts=(VirtualHost(name="v", domains=("a.b", "*.c"), rules=()),)))
    assert index.find(authority, "") is None
