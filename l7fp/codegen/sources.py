"""Source conditions as bits: what the plan's source atoms say of a workload, and of an address.

Identity is fixed for a workload's life and addresses for a connection's, so these conditions are evaluated when a
workload or a policy is loaded and the kernel only looks the bits up. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from l7fp.ir.matching import compile_string
from l7fp.ir.model import FieldKind, StringMatch, Workload

SourceAtom = tuple[FieldKind, str, StringMatch]
"""Field, its name (of a label, else empty), and how it must match. Its position is its bit."""

MAX_ATOMS = 64


def workload_bits(atoms: Sequence[SourceAtom], workload: Workload) -> int:
    """Bit i is set when `atoms[i]` holds for `workload`. Raises `ValueError` for other fields."""
    return sum(1 << i for i, (kind, name, match) in enumerate(atoms) if _holds(kind, name, match, workload))


def _holds(kind: FieldKind, name: str, match: StringMatch, workload: Workload) -> bool:
    # as in `ir.conditions`: an empty value is none
    return any(value and compile_string(match)(value) for value in _values(kind, name, workload))


def _values(kind: FieldKind, name: str, workload: Workload) -> Iterator[str]:
    match kind:
        case FieldKind.SOURCE_PRINCIPAL:
            yield workload.principal
        case FieldKind.SOURCE_NAMESPACE:
            yield workload.namespace
        case FieldKind.SOURCE_LABEL:
            yield from (value for label, value in workload.labels if label == name)
        case _:
            raise ValueError(f"{kind.value} is not a property of a workload")


_V4 = ipaddress.IPv6Network("::ffff:0:0/96")


def address_bits(networks: Sequence[str]) -> dict[tuple[int, bytes], int]:
    """Longest-prefix table of address blocks: (prefix bits, 16 address bytes) -> bits of all blocks containing it.

    IPv4 blocks are those of ::ffff:0:0/96. IPv6 blocks don't contain them, however wide: a client is one or the other.
    """
    parsed = [ipaddress.ip_network(text, strict=False) for text in networks]
    wide = [_mapped(network) for network in parsed]
    out: dict[tuple[int, bytes], int] = {}
    for network in dict.fromkeys([*wide, *([_V4] if parsed else [])]):
        v4 = network.subnet_of(_V4)
        containing = (i for i, other in enumerate(wide) if network.subnet_of(other) and (parsed[i].version == 4) == v4)
        out[network.prefixlen, network.network_address.packed] = sum(1 << i for i in containing)
    return out


def _mapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ipaddress.IPv6Network:
    if isinstance(network, ipaddress.IPv6Network):
        return network
    return ipaddress.IPv6Network(f"::ffff:{network.network_address}/{network.prefixlen + 96}")
