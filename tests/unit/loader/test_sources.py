"""Source conditions as bits."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7fp.codegen.sources import SourceAtom, address_bits, workload_bits
from l7fp.ir.model import FieldKind, StringKind, StringMatch, Workload

CART = Workload(name="shop/cart", namespace="shop", service_account="cart-sa", labels=(("app", "cart"), ("tier", "")))
PRINCIPAL, NAMESPACE, LABEL = FieldKind.SOURCE_PRINCIPAL, FieldKind.SOURCE_NAMESPACE, FieldKind.SOURCE_LABEL


@pytest.mark.parametrize(
    ("kind", "name", "match", "holds"),
    [
        (NAMESPACE, "", StringMatch(StringKind.EXACT, "shop"), True),
        (NAMESPACE, "", StringMatch(StringKind.EXACT, "Shop"), False),
        (NAMESPACE, "", StringMatch(StringKind.EXACT, "Shop", ignore_case=True), True),
        (NAMESPACE, "", StringMatch(StringKind.PREFIX, "sh"), True),
        (NAMESPACE, "", StringMatch(StringKind.SUFFIX, "sh"), False),
        (PRINCIPAL, "", StringMatch(StringKind.EXACT, "cluster.local/ns/shop/sa/cart-sa"), True),
        (PRINCIPAL, "", StringMatch(StringKind.SUFFIX, "/sa/cart-sa"), True),
        (PRINCIPAL, "", StringMatch(StringKind.CONTAINS, "/ns/shop/"), True),
        (LABEL, "app", StringMatch(StringKind.EXACT, "cart"), True),
        (LABEL, "app", StringMatch(StringKind.EXACT, "ca"), False),
        (LABEL, "app", StringMatch(StringKind.REGEX, "c[a-z]+"), True),
        (LABEL, "app", StringMatch(StringKind.REGEX, "c"), False),
        (LABEL, "tier", StringMatch(StringKind.PRESENT), False),
        (LABEL, "absent", StringMatch(StringKind.PRESENT), False),
        (LABEL, "absent", StringMatch(StringKind.EXACT, ""), False),
    ],
)
def test_atom_holds_for_a_workload(kind: FieldKind, name: str, match: StringMatch, holds: bool) -> None:
    assert workload_bits([(kind, name, match)], CART) == int(holds)


def test_bit_is_the_position() -> None:
    yes: SourceAtom = (NAMESPACE, "", StringMatch(StringKind.EXACT, "shop"))
    no: SourceAtom = (NAMESPACE, "", StringMatch(StringKind.EXACT, "other"))
    assert workload_bits([no, yes, no, yes], CART) == 0b1010
    assert workload_bits([yes] * 64, CART) == 2**64 - 1


@pytest.mark.parametrize("kind", [FieldKind.PATH, FieldKind.SOURCE_IP, FieldKind.REQUEST_PRINCIPAL])
def test_what_a_workload_does_not_have_is_refused(kind: FieldKind) -> None:
    with pytest.raises(ValueError, match="not a property of a workload"):
        workload_bits([(kind, "", StringMatch(StringKind.EXACT, "/"))], CART)


def _lookup(table: dict[tuple[int, bytes], int], address: str) -> int:
    """What the kernel's trie yields: the longest prefix wins."""
    parsed = ipaddress.ip_address(address)
    packed = parsed.packed if parsed.version == 6 else b"\0" * 10 + b"\xff\xff" + parsed.packed
    number = int.from_bytes(packed, "big")
    best, bits = -1, 0
    for (length, prefix), value in table.items():
        if length > best and number >> (128 - length) == int.from_bytes(prefix, "big") >> (128 - length):
            best, bits = length, value
    return bits


NETWORKS = st.one_of(
    st.builds(lambda n, p: f"{ipaddress.IPv4Address(n << 24)}/{p}", st.integers(0, 15), st.integers(0, 32)),
    st.builds(lambda n, p: f"{ipaddress.IPv6Address(n << 112)}/{p}", st.integers(0, 15), st.integers(0, 128)),
)
ADDRESSES = st.one_of(
    st.builds(lambda n, m: str(ipaddress.IPv4Address(n << 24 | m)), st.integers(0, 15), st.integers(0, 3)),
    st.builds(lambda n, m: str(ipaddress.IPv6Address(n << 112 | m)), st.integers(1, 15), st.integers(0, 3)),
)


@given(networks=st.lists(NETWORKS, max_size=8), address=ADDRESSES)
def test_longest_prefix_lookup_equals_asking_each_block(networks: list[str], address: str) -> None:
    parsed = ipaddress.ip_address(address)
    expected = sum(1 << i for i, text in enumerate(networks) if parsed in ipaddress.ip_network(text, strict=False))
    assert _lookup(address_bits(networks), address) == expected


def test_ipv6_catch_all_does_not_contain_ipv4_clients() -> None:
    table = address_bits(["::/0", "0.0.0.0/0"])
    assert _lookup(table, "fd00::1") == 0b01
    assert _lookup(table, "10.0.0.1") == 0b10
    assert _lookup(address_bits(["::/0"]), "10.0.0.1") == 0
