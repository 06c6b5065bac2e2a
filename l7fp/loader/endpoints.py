"""Numbers of endpoints: one per address and port for the life of an instance, kept in a pinned map.

The kernel's pools and states are indexed by them, and transactions in flight refer to them, so a number is given
to another address only after it was released.
"""

from __future__ import annotations

from collections.abc import Iterable

from l7fp import abi
from l7fp.errors import LoadError
from l7fp.loader import codecs, sys
from l7fp.loader.codecs import Address
from l7fp.loader.maps import HashView, PoolsView
from l7fp.loader.sys import MapType

MAP = "endpoint_ids"


def create_map() -> int:
    """The map's fd; its place is among the base's pins."""
    return sys.map_create(
        MapType.HASH, key_size=codecs.ADDRESS.size, value_size=4, max_entries=abi.MAX_ENDPOINTS, name=MAP
    )


class EndpointIds:
    """The numbers given out so far. `pools` gets a stack for each new one."""

    def __init__(self, fd: int, pools: PoolsView) -> None:
        self._map: HashView[Address, int] = HashView(fd, codecs.ADDRESS, codecs.U32)
        self._pools = pools
        self._ids = self._map.items()
        self._free = sorted(set(range(abi.MAX_ENDPOINTS)) - set(self._ids.values()), reverse=True)

    def all(self) -> dict[Address, int]:
        """Every endpoint that has a number."""
        return dict(self._ids)

    def get(self, address: Address) -> int | None:
        """Its number, None when it has none."""
        return self._ids.get(address)

    def allocate(self, addresses: Iterable[Address]) -> list[Address]:
        """Number those that have none yet; returns them. On failure none of them is numbered."""
        new = [address for address in dict.fromkeys(addresses) if address not in self._ids]
        if len(new) > len(self._free):
            raise LoadError(
                f"more than {abi.MAX_ENDPOINTS} endpoints", hint="spread the services over several instances"
            )
        numbers = {address: self._free.pop() for address in new}
        self._ids.update(numbers)
        try:
            self._pools.create(list(numbers.values()))
            self._map.update(numbers)
        except BaseException:
            for address in new:
                self.release(address)
            raise
        return new

    def release(self, address: Address) -> None:
        """Give a number back. Only when no slot and no policy version refers to it any more."""
        number = self._ids.pop(address, None)
        if number is None:
            return
        self._pools.remove(number)
        self._map.delete(address)
        self._free.append(number)
