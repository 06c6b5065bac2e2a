"""The service registry: Kubernetes Services and ServiceEntries with their endpoints.

Endpoints come from EndpointSlices, else Endpoints, else the Pods that the Service selects; for a
ServiceEntry from its `endpoints` or the WorkloadEntries and Pods that it selects.
"""

from __future__ import annotations

from collections import defaultdict

from l7fp.frontend import kubernetes, wire
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.lower.context import (
    DOMAIN,
    Context,
    EndpointInfo,
    Port,
    ServiceInfo,
    WorkloadInfo,
    selects,
    texts,
)
from l7fp.frontend.lower.entries import collect_entries
from l7fp.frontend.lower.protocols import kubernetes_protocol, register
from l7fp.frontend.schema import At
from l7fp.source import Span

SERVICE_NAME_LABEL = "kubernetes.io/service-name"

Slices = dict[tuple[str, str], list[kubernetes.EndpointSlice]]


def collect(ast: Ast, context: Context) -> None:
    """Fill `context.services`."""
    slices: Slices = defaultdict(list)
    for item, slice_ in ast.of(kubernetes.EndpointSlice):
        owner = item.labels.get(SERVICE_NAME_LABEL)
        if owner is None:
            hint = f"add the label {SERVICE_NAME_LABEL}"
            context.sink.warning("L7FP316", item.span, f"{item} belongs to no Service", hint)
        else:
            slices[item.namespace, owner].append(slice_)
    endpoints = {(item.namespace, item.name): spec for item, spec in ast.of(kubernetes.Endpoints)}
    for item, service in ast.of(kubernetes.Service):
        made = _service(context, item, service)
        if made is None or not register(context, made):
            continue
        place = item.namespace, item.name
        if place in slices:
            for slice_ in slices[place]:
                _from_slice(context, made, service, slice_)
        elif place in endpoints:
            _from_endpoints(context, made, service, endpoints[place])
        else:
            _from_pods(context, made, service)
    owners = {(item.namespace, item.name) for item, _ in ast.of(kubernetes.Service)}
    for place in (*slices, *endpoints):
        if place not in owners:
            span = slices[place][0].span if place in slices else endpoints[place].span
            message = f"endpoints of Service {place[0]}/{place[1]}, which isn't in the input"
            context.sink.warning("L7FP316", span, message, "add the Service")
    collect_entries(ast, context)
    for info in context.services.values():
        if info.static and info.http_ports() and not any(info.endpoints.values()):
            hint = "add its Pods with status.podIP, an EndpointSlice, or endpoints"
            context.sink.warning("L7FP306", info.span, f"{info.host} has no endpoints: requests get 503", hint)


def _service(context: Context, item: Object, service: kubernetes.Service) -> ServiceInfo | None:
    sink = context.sink
    if service.type is not None and service.type.value == "ExternalName":
        hint = "describe the external host as a ServiceEntry"
        sink.warning("L7FP403", item.span, f"{item} is of type ExternalName: requests to it pass untouched", hint)
        return None
    if service.session_affinity is not None and service.session_affinity.value != "None":
        hint = "endpoints are chosen per request"
        sink.warning("L7FP401", service.session_affinity.span, f"{item}: sessionAffinity is not enforced", hint)
    local = service.internal_traffic_policy
    if local is not None and local.value != "Cluster":
        sink.warning("L7FP401", local.span, f"{item}: internalTrafficPolicy is not enforced", "all endpoints are used")
    found = [service.cluster_ip, *service.cluster_ips]
    addresses = [address for address in found if address is not None and address.value not in ("", "None")]
    for address in addresses:
        if not wire.is_ip(address.value):
            sink.error("L7FP204", address.span, f"{item}: `{address.value}` is not an IP address", "write an address")
            return None
    ports = tuple(
        Port(port.port.value, _text(port.name), *kubernetes_protocol(port), port.span)
        for port in service.ports
        if port.protocol is None or port.protocol.value == "TCP"
    )
    return ServiceInfo(
        host=f"{item.name}.{item.namespace}.svc.{DOMAIN}".lower(),
        name=item.name.lower(),
        namespace=item.namespace,
        kubernetes=True,
        addresses=tuple(dict.fromkeys(wire.canonical_ip(address.value) for address in addresses)),
        ports=ports,
        span=item.span,
        headless=service.cluster_ip is not None and service.cluster_ip.value == "None",
    )


def _from_slice(
    context: Context, made: ServiceInfo, service: kubernetes.Service, slice_: kubernetes.EndpointSlice
) -> None:
    if slice_.address_type is not None and slice_.address_type.value == "FQDN":
        hint = "list the addresses"
        context.sink.warning("L7FP314", slice_.span, f"{made.host}: endpoints by name aren't resolved", hint)
        return
    numbers = {_text(port.name): port.port.value for port in slice_.ports if port.port is not None}
    for endpoint in slice_.endpoints:
        ready = endpoint.conditions is None or endpoint.conditions.ready is None or endpoint.conditions.ready.value
        if not ready and not _publishes(service):
            continue
        for address in endpoint.addresses:
            if not wire.is_ip(address.value):
                hint = "write an address"
                context.sink.error("L7FP204", address.span, f"`{address.value}` is not an IP address", hint)
                continue
            _place(context, made, service, numbers, wire.canonical_ip(address.value), endpoint.target_ref, address.span)


def _from_endpoints(
    context: Context, made: ServiceInfo, service: kubernetes.Service, endpoints: kubernetes.Endpoints
) -> None:
    for subset in endpoints.subsets:
        numbers = {_text(port.name): port.port.value for port in subset.ports if port.port is not None}
        for address in subset.addresses:
            ip = wire.canonical_ip(address.ip.value)
            _place(context, made, service, numbers, ip, address.target_ref, address.span)


def _place(
    context: Context,
    made: ServiceInfo,
    service: kubernetes.Service,
    numbers: dict[str, int],
    address: str,
    target: kubernetes.TargetRef | None,
    span: Span,
) -> None:
    workload = _owner(context, made, service, address, target, span)
    for port in made.ports:
        number = numbers.get(port.name)
        if number is None and len(numbers) == 1 and len(made.ports) == 1:
            number = next(iter(numbers.values()))
        if number is not None:
            _append(made, port.number, EndpointInfo(address, number, workload.labels, workload.name, 1, span))


def _owner(
    context: Context,
    made: ServiceInfo,
    service: kubernetes.Service,
    address: str,
    target: kubernetes.TargetRef | None,
    span: Span,
) -> WorkloadInfo:
    """The Pod behind an address; where the input lacks it, a workload with the labels the Service selects by."""
    is_pod = target is not None and target.name is not None and (target.kind is None or target.kind.value == "Pod")
    name = f"{made.namespace}/{_text(target.name)}" if target is not None and is_pod else ""
    known = context.workloads.get(name) if name else context.workload_at(address, made.namespace)
    if known is not None:
        return known
    name = name or f"{made.namespace}/{made.name}@{address}"
    if name not in context.workloads:
        labels = texts(service.selector)
        context.workloads[name] = WorkloadInfo(name, made.namespace, labels, "default", (address,), "", span)
        message = f"the Pod behind {address} of {made.host} isn't in the input; it is taken to have the labels {labels}"
        context.sink.warning("L7FP307", span, message, "add the Pod, for its labels, service account and cgroup")
    return context.workloads[name]


def _from_pods(context: Context, made: ServiceInfo, service: kubernetes.Service) -> None:
    wanted = texts(service.selector)
    if not wanted:
        return
    for workload in context.workloads.values():
        if workload.namespace != made.namespace or not selects(workload.labels, wanted) or not workload.serving:
            continue
        if workload.not_ready and not _publishes(service):
            continue
        if not workload.addresses:
            hint = "add status.podIP"
            context.sink.warning("L7FP306", workload.span, f"{workload.name} has no address", hint)
            continue
        for port in service.ports:
            number = _target_port(port, workload)
            if number is not None and made.port(port.port.value) is not None:
                address = workload.addresses[0]
                found = EndpointInfo(address, number, workload.labels, workload.name, 1, workload.span)
                _append(made, port.port.value, found)


def _target_port(port: kubernetes.ServicePort, workload: WorkloadInfo) -> int | None:
    target = port.target_port
    if target is None or target.value == 0:
        return port.port.value
    return target.value if isinstance(target.value, int) else workload.ports.get(target.value)


def _append(made: ServiceInfo, port: int, endpoint: EndpointInfo) -> None:
    listed = made.endpoints.setdefault(port, [])
    if not any(e.address == endpoint.address and e.port == endpoint.port for e in listed):
        listed.append(endpoint)


def _publishes(service: kubernetes.Service) -> bool:
    return service.publish_not_ready_addresses is not None and service.publish_not_ready_addresses.value


def _text(value: At[str] | None) -> str:
    return "" if value is None else value.value
