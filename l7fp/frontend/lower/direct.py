"""Requests that a client sends to an endpoint's own address, past the Service.

Istio passes these through to where they were sent, and the server's authorization policies still
hold. So each endpoint is a virtual host of its own, on its own port.
"""

from __future__ import annotations

from l7fp.frontend.lower.clusters import Clusters
from l7fp.frontend.lower.context import Context, EndpointInfo
from l7fp.ir.model import Cluster, Destination, Endpoint, Route, Rule, VirtualHost


def direct_hosts(context: Context, clusters: Clusters) -> dict[int, list[VirtualHost]]:
    """Virtual hosts of all endpoints by port; makes their clusters."""
    owned = {
        (address, port)
        for service in context.services.values()
        for port in service.http_ports()
        for address in service.addresses
    }
    endpoints: dict[tuple[str, int], EndpointInfo] = {}
    for service in context.services.values():
        for port in service.http_ports():
            for endpoint in service.endpoints.get(port, ()):
                if (endpoint.address, endpoint.port) not in owned:
                    endpoints.setdefault((endpoint.address, endpoint.port), endpoint)
    made: dict[int, list[VirtualHost]] = {}
    for (address, port), endpoint in endpoints.items():
        made.setdefault(port, []).append(_host(address, port, endpoint, clusters))
    return made


def _host(address: str, port: int, endpoint: EndpointInfo, clusters: Clusters) -> VirtualHost:
    name = f"outbound|{port}||{address}"
    target = Endpoint(address=address, port=port, workload=endpoint.workload, span=endpoint.span)
    clusters.made[name] = Cluster(name=name, host=address, port=port, endpoints=(target,), span=endpoint.span)
    action = Route(destinations=(Destination(cluster=name, span=endpoint.span),))
    literal = f"[{address}]" if ":" in address else address
    return VirtualHost(
        name=f"{literal}:{port}",
        domains=(literal, f"{literal}:{port}"),
        rules=(Rule(name=f"{literal}:{port}/direct", action=action, span=endpoint.span),),
        addresses=(address,),
        span=endpoint.span,
    )
