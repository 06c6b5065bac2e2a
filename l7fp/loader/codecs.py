"""Keys and values of maps as Python values: integers, the records of `l7fp.abi`, addresses, raw bytes."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from l7fp import abi

T = TypeVar("T")

Record = Mapping[str, int | tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """`size` bytes of a map that stand for a `T`."""

    size: int
    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]


def _integer(letter: str) -> Codec[int]:
    layout = struct.Struct("<" + letter)
    return Codec(layout.size, layout.pack, lambda raw: int(layout.unpack(raw)[0]))


U32 = _integer("I")
U64 = _integer("Q")


def raw(size: int) -> Codec[bytes]:
    """Bytes as they are."""
    return Codec(size, bytes, bytes)


def record(name: str) -> Codec[Record]:
    """A struct of `l7fp.abi` as a mapping; fields left out are zero."""
    layout = abi.BY_NAME[name]

    def pack(value: Record) -> bytes:
        fields: Any = dict(value)
        return layout.pack(**fields)

    return Codec(layout.size, pack, layout.unpack)


def address_bytes(address: str) -> bytes:
    """16 bytes; IPv4 as ::ffff:a.b.c.d. Raises `ValueError` for what is not an address."""
    parsed = ipaddress.ip_address(address)
    if "%" in address:
        raise ValueError(f"{address} holds on one link only")
    if parsed.version == 4:
        return b"\0" * 10 + b"\xff\xff" + parsed.packed
    return parsed.packed


def address_text(raw_address: bytes) -> str:
    """The inverse of `address_bytes`, in canonical form."""
    parsed = ipaddress.IPv6Address(raw_address)
    return str(parsed.ipv4_mapped or parsed)


Address = tuple[str, int]
"""An IP address in text and a port."""

ADDRESS: Codec[Address] = Codec(
    abi.BY_NAME["addr_key"].size,
    lambda value: address_bytes(value[0]) + value[1].to_bytes(4, "little"),
    lambda data: (address_text(data[:16]), int.from_bytes(data[16:20], "little")),
)

LpmKey = tuple[int, bytes]
"""Prefix length in bits and 16 address bytes."""

LPM_KEY: Codec[LpmKey] = Codec(
    20,
    lambda value: value[0].to_bytes(4, "little") + value[1],
    lambda data: (int.from_bytes(data[:4], "little"), data[4:20]),
)

WORKLOAD_ID: Codec[str] = Codec(
    abi.BY_NAME["workload_id"].size,
    lambda value: address_bytes(value) if value else bytes(16),
    lambda data: address_text(data) if any(data) else "",
)
"""An address, empty for none."""
