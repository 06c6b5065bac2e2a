"""ServiceEntries in the service registry."""

from __future__ import annotations

import ipaddress

from l7fp.frontend import service_entry, wire
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.lower import workloads
from l7fp.frontend.lower.context import Context, EndpointInfo, Port, ServiceInfo, selects, texts
from l7fp.frontend.lower.protocols import entry_protocol, register


def collect_entries(ast: Ast, context: Context) -> None:
    """Add one service per host of each ServiceEntry."""
    for item, entry in ast.of(service_entry.ServiceEntry):
        if entry.export_to and "*" not in [scope.value for scope in entry.export_to]:
            hint = "every client sees the host here"
            context.sink.warning("L7FP401", entry.export_to[0].span, f"{item}: exportTo is not enforced", hint)
        static = _is_static(context, item, entry)
        by_port = _endpoints(context, item, entry) if static else {}
        for host in entry.hosts:
            made = ServiceInfo(
                host=host.value.lower().rstrip("."),
                name=item.name,
                namespace=item.namespace,
                kubernetes=False,
                addresses=_addresses(context, item, entry),
                ports=_ports(entry),
                span=host.span,
                static=static,
                endpoints=by_port,
            )
            register(context, made)


def _is_static(context: Context, item: Object, entry: service_entry.ServiceEntry) -> bool:
    mode = "NONE" if entry.resolution is None else entry.resolution.value
    literals = all(e.address is not None and wire.is_ip(e.address.value) for e in entry.endpoints)
    if mode == "STATIC" or (mode != "NONE" and entry.endpoints and literals):
        return literals or not entry.endpoints
    span = item.span if entry.resolution is None else entry.resolution.span
    message = f"{item}: resolution {mode}: requests to its hosts pass untouched and nothing is enforced on them"
    context.sink.warning("L7FP314", span, message, "list endpoints by IP address with resolution: STATIC")
    return False


def _ports(entry: service_entry.ServiceEntry) -> tuple[Port, ...]:
    made = []
    for port in entry.ports:
        declared = "" if port.protocol is None else port.protocol.value
        protocol = entry_protocol(declared, port.number.value)
        made.append(Port(port.number.value, port.name.value, *protocol, port.span))
    return tuple(made)


def _addresses(context: Context, item: Object, entry: service_entry.ServiceEntry) -> tuple[str, ...]:
    found: list[str] = []
    for address in entry.addresses:
        network = ipaddress.ip_network(address.value, strict=False)
        if network.num_addresses == 1:
            found.append(wire.canonical_ip(str(network.network_address)))
        else:
            message = f"{item}: the block {address.value} isn't captured; requests to it pass untouched"
            context.sink.warning("L7FP401", address.span, message, "list single addresses")
    return tuple(dict.fromkeys(found))


def _endpoints(context: Context, item: Object, entry: service_entry.ServiceEntry) -> dict[int, list[EndpointInfo]]:
    by_port: dict[int, list[EndpointInfo]] = {port.number.value: [] for port in entry.ports}
    internal = entry.location is not None and entry.location.value == "MESH_INTERNAL"
    for index, endpoint in enumerate(entry.endpoints):
        if endpoint.address is None:
            continue
        name = ""
        if internal:
            name = workloads.inline(context, f"{item.namespace}/{item.name}[{index}]", item.namespace, endpoint).name
        numbers = {label.value: port.value for label, port in endpoint.ports}
        weight = 1 if endpoint.weight is None or not endpoint.weight.value else endpoint.weight.value
        address = wire.canonical_ip(endpoint.address.value)
        for port in entry.ports:
            number = numbers.get(port.name.value, _target(port))
            made = EndpointInfo(address, number, texts(endpoint.labels), name, weight, endpoint.span)
            by_port[port.number.value].append(made)
    if entry.workload_selector is not None:
        wanted = texts(entry.workload_selector.labels)
        for workload in context.workloads.values():
            if workload.namespace != item.namespace or not selects(workload.labels, wanted) or not workload.addresses:
                continue
            for port in entry.ports:
                number = workload.ports.get(port.name.value, _target(port))
                made = EndpointInfo(
                    workload.addresses[0], number, workload.labels, workload.name, workload.weight, workload.span
                )
                by_port[port.number.value].append(made)
    return by_port


def _target(port: service_entry.ServicePort) -> int:
    return port.number.value if port.target_port is None else port.target_port.value
