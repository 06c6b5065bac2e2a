"""The Kubernetes objects that give a policy its context: Service, Endpoints, EndpointSlice, Pod, Namespace.

Only what decides routing and identity is read. Other fields are Kubernetes' business, not a mesh
policy's, and pass without a finding.
"""

# ruff: noqa: RUF009 - `key` makes a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from l7fp.frontend import wire
from l7fp.frontend.schema import BOOL, STRING, At, checked, either, enum, integer, key, keys, record, sequence
from l7fp.frontend.virtual_service import LABELS, PORT
from l7fp.source import Span

PORT_OR_NAME: Any = either(integer(0, 65535), STRING, expects="a port number or name")
IP = checked(STRING, wire.ip)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    span: Span
    name: At[str] | None = key(STRING)
    port: At[int] = key(PORT, required=True)
    target_port: At[int] | At[str] | None = key(PORT_OR_NAME)
    protocol: At[str] | None = key(STRING)
    app_protocol: At[str] | None = key(STRING)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`spec`."""

    span: Span
    type: At[str] | None = key(enum("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
    cluster_ip: At[str] | None = key(STRING, name="clusterIP")
    cluster_ips: tuple[At[str], ...] = keys(sequence(STRING), name="clusterIPs")
    ports: tuple[ServicePort, ...] = keys(sequence(record(ServicePort)))
    selector: tuple[tuple[At[str], At[str]], ...] = keys(LABELS)
    publish_not_ready_addresses: At[bool] | None = key(BOOL)
    session_affinity: At[str] | None = key(STRING)
    internal_traffic_policy: At[str] | None = key(STRING)
    external_name: At[str] | None = key(STRING)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRef:
    span: Span
    kind: At[str] | None = key(STRING)
    name: At[str] | None = key(STRING)
    namespace: At[str] | None = key(STRING)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPort:
    span: Span
    name: At[str] | None = key(STRING)
    port: At[int] | None = key(PORT)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    span: Span
    ready: At[bool] | None = key(BOOL)
    serving: At[bool] | None = key(BOOL)
    terminating: At[bool] | None = key(BOOL)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    span: Span
    addresses: tuple[At[str], ...] = keys(sequence(STRING))
    conditions: Conditions | None = key(record(Conditions))
    target_ref: TargetRef | None = key(record(TargetRef))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """The object itself: it has no `spec`."""

    span: Span
    address_type: At[str] | None = key(enum("IPv4", "IPv6", "FQDN"))
    endpoints: tuple[SliceEndpoint, ...] = keys(sequence(record(SliceEndpoint)))
    ports: tuple[EndpointPort, ...] = keys(sequence(record(EndpointPort)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAddress:
    span: Span
    ip: At[str] = key(IP, required=True)
    target_ref: TargetRef | None = key(record(TargetRef))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSubset:
    span: Span
    addresses: tuple[EndpointAddress, ...] = keys(sequence(record(EndpointAddress)))
    ports: tuple[EndpointPort, ...] = keys(sequence(record(EndpointPort)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The object itself: it has no `spec`."""

    span: Span
    subsets: tuple[EndpointSubset, ...] = keys(sequence(record(EndpointSubset)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    span: Span
    name: At[str] | None = key(STRING)
    container_port: At[int] | None = key(PORT)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    span: Span
    ports: tuple[ContainerPort, ...] = keys(sequence(record(ContainerPort)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    span: Span
    service_account_name: At[str] | None = key(STRING)
    containers: tuple[Container, ...] = keys(sequence(record(Container)))
    init_containers: tuple[Container, ...] = keys(sequence(record(Container)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIp:
    span: Span
    ip: At[str] | None = key(IP)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCondition:
    span: Span
    type: At[str] | None = key(STRING)
    status: At[str] | None = key(STRING)
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    span: Span
    phase: At[str] | None = key(STRING)
    pod_ip: At[str] | None = key(IP, name="podIP")
    pod_ips: tuple[PodIp, ...] = keys(sequence(record(PodIp)), name="podIPs")
    conditions: tuple[PodCondition, ...] = keys(sequence(record(PodCondition)))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The object itself: `spec` and `status` both count."""

    span: Span
    spec: PodSpec | None = key(record(PodSpec))
    status: PodStatus | None = key(record(PodStatus))
    OPEN: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Only its name and labels (in `metadata`) count."""

    span: Span
    OPEN: ClassVar[bool] = True


SERVICE = record(Service)
ENDPOINT_SLICE = record(EndpointSlice)
ENDPOINTS = record(Endpoints)
POD = record(Pod)
NAMESPACE = record(Namespace)
