"""What the lowering steps pass along: services, workloads and endpoints as Istio's registry knows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from l7fp.diagnostics import Diagnostics
from l7fp.frontend.schema import At
from l7fp.frontend.wire import is_ip
from l7fp.source import Span

DOMAIN = "cluster.local"
ROOT_NAMESPACE = "istio-system"


class Protocol(Enum):
    """What a port carries, as far as l7fp cares."""

    HTTP = "HTTP"
    HTTP2 = "HTTP/2"
    OPAQUE = "not HTTP"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service. `text` is how its protocol was declared, empty when it wasn't."""

    number: int
    name: str
    protocol: Protocol
    text: str
    span: Span


@dataclass(slots=True)
class WorkloadInfo:
    """A Pod, WorkloadEntry or mesh-internal inline endpoint. `ports` are named container ports."""

    name: str
    namespace: str
    labels: dict[str, str]
    service_account: str
    addresses: tuple[str, ...]
    cgroup: str
    span: Span
    ports: dict[str, int] = field(default_factory=dict)
    serving: bool = True
    not_ready: bool = False
    weight: int = 1
    policies: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """An address that serves a port of a service."""

    address: str
    port: int
    labels: dict[str, str]
    workload: str
    weight: int
    span: Span


@dataclass(slots=True)
class ServiceInfo:
    """A Kubernetes Service or one host of a ServiceEntry. `static` is false where endpoints need DNS."""

    host: str
    name: str
    namespace: str
    kubernetes: bool
    addresses: tuple[str, ...]
    ports: tuple[Port, ...]
    span: Span
    headless: bool = False
    static: bool = True
    endpoints: dict[int, list[EndpointInfo]] = field(default_factory=dict)

    def http_ports(self) -> list[int]:
        """Ports that l7fp routes."""
        return [port.number for port in self.ports if port.protocol is Protocol.HTTP] if self.static else []

    def port(self, number: int) -> Port | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(slots=True)
class Context:
    """The registry and the sink."""

    sink: Diagnostics
    workloads: dict[str, WorkloadInfo] = field(default_factory=dict)
    services: dict[str, ServiceInfo] = field(default_factory=dict)

    def workload_at(self, address: str, namespace: str) -> WorkloadInfo | None:
        """The one workload of the namespace that has this address."""
        found = [w for w in self.workloads.values() if w.namespace == namespace and address in w.addresses]
        return found[0] if len(found) == 1 else None


def fqdn(host: str, namespace: str) -> str:
    """Host as Istio expands it: a name without dots is a Service of the namespace. Lower case."""
    host = host.lower().rstrip(".")
    if "." in host or "*" in host or is_ip(host):
        return host
    return f"{host}.{namespace}.svc.{DOMAIN}"


def selects(labels: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether `labels` hold all of `wanted`."""
    return all(labels.get(name) == value for name, value in wanted.items())


def texts(pairs: tuple[tuple[At[str], At[str]], ...]) -> dict[str, str]:
    """A decoded map without its places."""
    return {name.value: value.value for name, value in pairs}


def wildcard_matches(pattern: str, host: str) -> bool:
    """Whether `*suffix` covers a host or a narrower wildcard."""
    return pattern == "*" or (pattern.startswith("*") and host != pattern and host.endswith(pattern[1:]))
