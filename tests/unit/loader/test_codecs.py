"""Keys and values as the programs see them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7fp import abi
from l7fp.loader import codecs
from l7fp.loader.desired import canonical


def test_ipv4_is_mapped_in_network_order_with_the_port_in_host_order() -> None:
    raw = codecs.ADDRESS.pack(("10.1.2.3", 80))
    assert raw == bytes(10) + b"\xff\xff" + bytes([10, 1, 2, 3]) + b"\x50\0\0\0"
    assert len(raw) == abi.BY_NAME["addr_key"].size


@given(address=st.ip_addresses(), port=st.integers(0, 65535))
def test_canonical_addresses_survive_a_map(address: object, port: int) -> None:
    key = canonical(str(address), port)
    assert key is not None
    assert codecs.ADDRESS.unpack(codecs.ADDRESS.pack(key)) == key


def test_spellings_of_one_address_are_one_key() -> None:
    assert canonical("0:0::1", 1) == canonical("::1", 1) == ("::1", 1)
    assert canonical("::ffff:1.2.3.4", 1) == ("1.2.3.4", 1)


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.0/8", "/run/x.sock", "1.2.3", "fe80::1%eth0"])
def test_what_is_no_address_has_no_key(text: str) -> None:
    assert canonical(text, 80) is None


def test_workload_without_address_is_all_zero() -> None:
    assert codecs.WORKLOAD_ID.pack("") == bytes(16)
    assert codecs.WORKLOAD_ID.unpack(bytes(16)) == ""
    assert codecs.WORKLOAD_ID.unpack(codecs.WORKLOAD_ID.pack("fd00::1")) == "fd00::1"


def test_records_default_to_zero_and_refuse_unknown_fields() -> None:
    listener = codecs.record("listener")
    assert listener.unpack(listener.pack({"port6": 9})) == {"port4": 0, "port6": 9}
    with pytest.raises(KeyError, match="port5"):
        listener.pack({"port5": 1})
