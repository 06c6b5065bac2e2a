"""The choice of a virtual host by Host, as Envoy makes it with `ignore_port_in_host_matching`."""

from __future__ import annotations

import re

from l7fp.ir.matching import address_key, lower
from l7fp.ir.model import RouteTable

_PORT = re.compile(r":[0-9]+\Z")


def split_port(authority: str) -> tuple[str, str]:
    """`host`, `:port`; the second is empty without a numeric port. `[::1]` has none."""
    at = authority.rfind(":")
    if at < 0 or authority.endswith("]") or not _PORT.search(authority, at):
        return authority, ""
    return authority[:at], authority[at:]


class HostIndex:
    """Virtual hosts of one table, by domain and by address; a lookup yields the place in the table."""

    __slots__ = ("_addresses", "_any", "_exact", "_lengths", "_suffixes")

    def __init__(self, table: RouteTable) -> None:
        self._exact: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._any: int | None = None
        self._addresses: dict[tuple[int, int], int] = {}
        for number, host in enumerate(table.virtual_hosts):
            for domain in host.domains:
                text = lower(domain)
                if text == "*":
                    self._any = number if self._any is None else self._any
                elif text.startswith("*"):
                    self._suffixes.setdefault(text[1:], number)
                else:
                    self._exact.setdefault(text, number)
            for address in host.addresses:
                key = address_key(address)
                if key is not None:
                    self._addresses.setdefault(key, number)
        self._lengths = sorted({len(suffix) for suffix in self._suffixes}, reverse=True)

    def find(self, authority: str, destination_ip: str) -> int | None:
        """The virtual host for a Host value: the domains that fit it as sent come before those that fit
        it without its port, those before `*`, and that before the owner of the destination address. One
        trailing dot of the name does not count."""
        number = self._exact.get(authority)  # the common case first: lower case, no dot
        if number is not None:
            return number
        host, port = split_port(lower(authority))
        host = host.removesuffix(".")
        number = self._fit(host + port) if host else None
        if number is None and port and host:
            number = self._fit(host)
        if number is None:
            number = self._any
        if number is None and self._addresses:
            key = address_key(destination_ip)
            number = self._addresses.get(key) if key is not None else None
        return number

    def _fit(self, host: str) -> int | None:
        number = self._exact.get(host)
        if number is not None:
            return number
        for length in self._lengths:
            if length < len(host):  # `*.b` stands for at least one character
                number = self._suffixes.get(host[-length:])
                if number is not None:
                    return number
        return None
