"""Route tables: which virtual host answers which domains on which port, as istiod builds them for a sidecar."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from l7fp.diagnostics import Diagnostics
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.lower.clusters import Clusters
from l7fp.frontend.lower.context import Context, ServiceInfo, fqdn, wildcard_matches
from l7fp.frontend.lower.direct import direct_hosts
from l7fp.frontend.lower.rules import PortRules, default_rule, lower_rules, report_blocks, report_gateways
from l7fp.frontend.schema import At, did_you_mean
from l7fp.frontend.virtual_service import VirtualService
from l7fp.ir.model import RouteTable, Rule, VirtualHost
from l7fp.source import Span

PORT_WITHOUT_SERVICE = 80
"""Where istiod puts hosts that are no service."""


@dataclass(slots=True)
class _Bound:
    """A VirtualService with what it speaks for."""

    item: Object
    spec: VirtualService
    services: list[ServiceInfo] = field(default_factory=list)
    hosts: list[At[str]] = field(default_factory=list)

    def ports(self) -> list[int]:
        found = {port for service in self.services for port in service.http_ports()}
        return sorted(found) if self.services else [PORT_WITHOUT_SERVICE]


def route_tables(ast: Ast, context: Context, clusters: Clusters) -> tuple[RouteTable, ...]:
    """All tables, by port; virtual hosts by name."""
    bound = _bind(ast, context)
    tables: dict[int, list[VirtualHost]] = defaultdict(list)
    answered: set[tuple[int, str]] = set()
    for one in bound:
        report_blocks(one.item, one.spec, context)
        by_port = {port: lower_rules(one.item, one.spec, port, context, clusters) for port in one.ports()}
        made: list[tuple[int, VirtualHost]] = []
        for port, rules in by_port.items():
            if not rules.rules:
                continue
            for service in one.services:
                if port in service.http_ports():
                    answered.add((port, service.host))
                    made.append((port, _of_service(service, port, rules, clusters)))
            for host in one.hosts:
                name = fqdn(host.value, one.item.namespace)
                domains = (_bracketed(name), f"{_bracketed(name)}:{port}")
                virtual = VirtualHost(name=f"{name}:{port}", domains=domains, rules=rules.rules, span=host.span)
                made.append((port, virtual))
        for port, virtual in _unique_names(made):
            tables[port].append(virtual)
    for service in context.services.values():
        for port in service.http_ports():
            if (port, service.host) not in answered:
                rules = PortRules((default_rule(service, port, clusters),), None)
                tables[port].append(_of_service(service, port, rules, clusters))
    for port, direct in direct_hosts(context, clusters).items():
        tables[port].extend(direct)
    return tuple(RouteTable(port=port, virtual_hosts=_domains(port, tables[port], context)) for port in sorted(tables))


def _bind(ast: Ast, context: Context) -> list[_Bound]:
    """Mesh-bound VirtualServices with their services: exact hosts first, then the longest wildcard."""
    bound: list[_Bound] = []
    exact: dict[str, _Bound] = {}
    wild: dict[str, _Bound] = {}
    for item, spec in ast.of(VirtualService):
        if not report_gateways(item, spec, context) or not spec.http or not spec.hosts:
            continue
        one = _Bound(item, spec)
        bound.append(one)
        for host in spec.hosts:
            name = fqdn(host.value, item.namespace)
            claims = wild if name.startswith("*") else exact
            if name in claims:
                message = f"{item}: host {name} has the routes of {claims[name].item} ({claims[name].item.span})"
                context.sink.error("L7FP304", host.span, message, "merge the two: only one can hold for a host")
                continue
            claims[name] = one
            service = context.services.get(name)
            if service is not None:
                _claim(one, service, host.span, context)
            elif not name.startswith("*"):
                one.hosts.append(host)
                _report_unknown(item, host, name, context)
    for service in context.services.values():
        if service.host not in exact and service.host not in wild:
            pattern = max((p for p in wild if wildcard_matches(p, service.host)), key=len, default=None)
            if pattern is not None:
                _claim(wild[pattern], service, wild[pattern].item.span, context)
    for name, one in wild.items():
        if not any(wildcard_matches(name, service) or name == service for service in context.services):
            host = next(h for h in one.spec.hosts if fqdn(h.value, one.item.namespace) == name)
            one.hosts.append(host)
            _report_unknown(one.item, host, name, context)
    return bound


def _claim(one: _Bound, service: ServiceInfo, span: Span, context: Context) -> None:
    one.services.append(service)
    if service.namespace != one.item.namespace:
        message = f"{one.item} routes {service.host} of namespace {service.namespace}, for all clients"
        context.sink.info("L7FP311", span, message, "check that this namespace may speak for the other")
    if not service.static:
        message = f"{one.item}: requests to {service.host} pass untouched, as its endpoints aren't known"
        context.sink.warning("L7FP314", span, message, "list endpoints by IP address with resolution: STATIC")
    elif not service.http_ports():
        message = f"{one.item}: {service.host} has no HTTP port; the routes have no effect"
        context.sink.warning("L7FP413", span, message, "name a port http-..., or set appProtocol")


def _report_unknown(item: Object, host: At[str], name: str, context: Context) -> None:
    guess = did_you_mean(name, context.services)
    where = f"port {PORT_WITHOUT_SERVICE}" if not context.services else "the ports that it routes"
    message = f"{item}: {name} is no service in the input; it is known by its Host on {where} only"
    context.sink.warning("L7FP313", host.span, message, guess or "add the Service or ServiceEntry")


def _of_service(service: ServiceInfo, port: int, rules: PortRules, clusters: Clusters) -> VirtualHost:
    listed = rules.rules
    if rules.for_others is not None:
        listed = (*listed, default_rule(service, port, clusters, rules.for_others))
    return VirtualHost(
        name=f"{service.host}:{port}",
        domains=_service_domains(service, port),
        rules=listed,
        addresses=service.addresses,
        span=service.span,
    )


def _service_domains(service: ServiceInfo, port: int) -> tuple[str, ...]:
    names = [service.host]
    if service.kubernetes:
        scope = service.namespace.lower()
        names += [f"{service.name}.{scope}.svc", f"{service.name}.{scope}", service.name]
    if service.headless:
        names += [f"*.{name}" for name in names]
    names += [_bracketed(address) for address in service.addresses]
    return tuple(domain for name in names for domain in (name, f"{name}:{port}"))


def _domains(port: int, hosts: list[VirtualHost], context: Context) -> tuple[VirtualHost, ...]:
    """Give every domain to one virtual host: a name that two claim belongs to neither, but a full one to the first."""
    claims = Counter(domain for host in hosts for domain in set(host.domains))
    taken: set[str] = set()
    made: list[VirtualHost] = []
    reported: set[str] = set()
    for host in sorted(hosts, key=lambda host: host.name):
        own = host.name.rpartition(":")[0]
        kept: list[str] = []
        for domain in dict.fromkeys(host.domains):
            bare = domain.removesuffix(f":{port}")
            if claims[domain] == 1 or (bare == own and domain not in taken):
                kept.append(domain)
                taken.add(domain)
            elif bare not in reported:
                reported.add(bare)
                _report_shared(context.sink, bare, port, [h for h in hosts if domain in h.domains])
        made.append(replace(host, domains=tuple(kept)))
    return tuple(made)


def _report_shared(sink: Diagnostics, domain: str, port: int, hosts: list[VirtualHost]) -> None:
    names = " and ".join(sorted(host.name.rpartition(":")[0] for host in hosts))
    message = f"`{domain}` on port {port} could mean {names}: the connection's destination address decides"
    sink.warning("L7FP305", hosts[-1].span, message, "clients may use the full names")


def _unique_names(made: list[tuple[int, VirtualHost]]) -> list[tuple[int, VirtualHost]]:
    """Rule names are unique in a policy: those of a VirtualService that several virtual hosts share say which."""
    if len(made) < 2:
        return made
    return [(port, replace(host, rules=tuple(_renamed(rule, host.name) for rule in host.rules))) for port, host in made]


def _renamed(rule: Rule, host: str) -> Rule:
    return rule if rule.name.endswith("/default") else replace(rule, name=f"{rule.name}@{host}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
