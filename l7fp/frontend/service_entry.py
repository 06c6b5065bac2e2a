"""Istio ServiceEntry and WorkloadEntry: AST and schema. Static endpoints are enforced."""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from l7fp.frontend import wire
from l7fp.frontend.schema import (
    STRING,
    At,
    Decoder,
    Groups,
    checked,
    enum,
    integer,
    key,
    keys,
    mapping,
    record,
    refused,
    sequence,
    unenforced,
)
from l7fp.frontend.virtual_service import LABELS, PORT
from l7fp.source import Span

PROTOCOLS = ("HTTP", "HTTPS", "GRPC", "HTTP2", "MONGO", "TCP", "TLS", "GRPC-WEB", "UDP", "REDIS", "MYSQL")


def _protocol(value: str) -> wire.Problem:
    if not value or value.upper() in PROTOCOLS:
        return None
    return "L7FP204", f"`{value}` is not a protocol", f"possible: {', '.join(PROTOCOLS)}"


def _address(value: str) -> wire.Problem:
    if value.startswith("unix://"):
        return "L7FP402", "endpoints on Unix sockets aren't reached", "give an IP address"
    return wire.exact_host(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    span: Span
    number: At[int] = key(PORT, required=True)
    name: At[str] = key(wire.LABEL, required=True)
    protocol: At[str] | None = key(checked(STRING, _protocol))
    target_port: At[int] | None = key(PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadEntry:
    """`spec` of a WorkloadEntry, and an item of a ServiceEntry's `endpoints`."""

    span: Span
    address: At[str] | None = key(checked(STRING, _address))
    ports: tuple[tuple[At[str], At[int]], ...] = keys(mapping(PORT, name=wire.label))
    labels: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    network: At[str] | None = key(STRING, note=unenforced("all endpoints are reached directly"))
    locality: At[str] | None = key(STRING, note=unenforced("endpoints have no locality here"))
    weight: At[int] | None = key(integer(0, 2**31 - 1))
    service_account: At[str] | None = key(STRING)

    def check(self, decoder: Decoder, path: str) -> None:
        if self.address is None and self.network is None:
            decoder.error("L7FP203", self.span, path, "`address` is missing", "add `address`")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySelector:
    span: Span
    labels: tuple[tuple[At[str], At[str]], ...] = keys(mapping(STRING, name=wire.not_empty))


_SAN = refused("names in server certificates aren't checked: endpoints get plain HTTP", "remove subjectAltNames")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntry:
    """`spec`."""

    span: Span
    hosts: tuple[At[str], ...] = key(sequence(wire.HOST, at_least=1), required=True)
    addresses: tuple[At[str], ...] = keys(sequence(wire.CIDR))
    ports: tuple[ServicePort, ...] = keys(sequence(record(ServicePort)))
    location: At[str] | None = key(enum("MESH_EXTERNAL", "MESH_INTERNAL"))
    resolution: At[str] | None = key(enum("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"))
    endpoints: tuple[WorkloadEntry, ...] = keys(sequence(record(WorkloadEntry)))
    workload_selector: EntrySelector | None = key(record(EntrySelector))
    export_to: tuple[At[str], ...] = keys(sequence(STRING))
    subject_alt_names: tuple[At[str], ...] = keys(sequence(STRING), note=_SAN)
    ONE_OF: ClassVar[Groups] = (("endpoints", "workloadSelector"),)

    def check(self, decoder: Decoder, path: str) -> None:
        mode = "NONE" if self.resolution is None else self.resolution.value
        if mode == "NONE" and self.endpoints:
            hint = "set resolution: STATIC for addresses, DNS for host names"
            decoder.error("L7FP205", self.endpoints[0].span, path, "endpoints with resolution NONE", hint)
        if mode == "STATIC" and not self.endpoints and self.workload_selector is None:
            hint = "add endpoints or workloadSelector"
            decoder.warning("L7FP306", self.span, path, "resolution STATIC without endpoints: requests get 503", hint)
        if mode == "DYNAMIC_DNS" and not all(host.value.startswith("*") for host in self.hosts):
            hint = "use DNS for a single host"
            decoder.error("L7FP205", self.span, path, "resolution DYNAMIC_DNS is for wildcard hosts", hint)
        for host in self.hosts:
            if host.value == "*":
                decoder.error("L7FP204", host.span, path, "the host `*` names no service", "name the host")
        seen: set[int] = set()
        names: set[str] = set()
        for port in self.ports:
            if port.number.value in seen or port.name.value in names:
                decoder.error("L7FP104", port.span, path, "a port number or name is given twice", "keep one of them")
            seen.add(port.number.value)
            names.add(port.name.value)
        for endpoint in self.endpoints:
            is_name = endpoint.address is not None and not wire.is_ip(endpoint.address.value)
            if mode == "STATIC" and is_name and endpoint.address is not None:
                hint = "give an IP address, or set resolution: DNS"
                decoder.error("L7FP204", endpoint.address.span, path, "resolution STATIC with a host name", hint)
            for name, _ in endpoint.ports:
                if self.ports and name.value not in names:
                    hint = f"possible: {', '.join(sorted(names))}"
                    decoder.error("L7FP303", name.span, path, f"no port is called `{name.value}`", hint)


SERVICE_ENTRY = record(ServiceEntry)
WORKLOAD_ENTRY = record(WorkloadEntry)
