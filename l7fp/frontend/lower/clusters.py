"""Clusters: a service port and subset with its endpoints and what DestinationRules say about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.destination_rule import DestinationRule, PortTrafficPolicy, Subset, TrafficPolicy
from l7fp.frontend.lower.context import (
    ROOT_NAMESPACE,
    Context,
    ServiceInfo,
    fqdn,
    selects,
    texts,
    wildcard_matches,
)
from l7fp.frontend.schema import At, did_you_mean
from l7fp.ir.model import Cluster, Endpoint, LoadBalancer

CONNECT_TIMEOUT_MS = 10_000

_BALANCERS = {
    "ROUND_ROBIN": LoadBalancer.ROUND_ROBIN,
    "RANDOM": LoadBalancer.RANDOM,
    "LEAST_REQUEST": LoadBalancer.LEAST_REQUEST,
    "LEAST_CONN": LoadBalancer.LEAST_REQUEST,
}


@dataclass(slots=True)
class _Rule:
    """The DestinationRules of one host, merged."""

    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = field(default_factory=dict)


class Clusters:
    """Makes clusters on demand; each once."""

    def __init__(self, ast: Ast, context: Context) -> None:
        self.context = context
        self.made: dict[str, Cluster] = {}
        self._by_host = self._rules_by_host(ast)
        self._of_service: dict[str, _Rule] = {}

    def get(self, service: ServiceInfo, port: int, subset: At[str] | None = None) -> str | None:
        """Name of the cluster, or None after a finding (no such subset)."""
        rule = self._rule(service)
        label = "" if subset is None else subset.value
        name = f"outbound|{port}|{label}|{service.host}"
        if name in self.made:
            return name
        chosen = rule.subsets.get(label)
        if subset is not None and chosen is None:
            guess = did_you_mean(label, rule.subsets)
            listed = ", ".join(rule.subsets) or "none: no DestinationRule for this host is in the input"
            message = f"{service.host} has no subset `{label}`"
            self.context.sink.error("L7FP302", subset.span, message, f"{guess} known subsets: {listed}".strip())
            return None
        endpoints = service.endpoints.get(port, [])
        if chosen is not None:
            wanted = texts(chosen.labels)
            known = endpoints
            endpoints = [endpoint for endpoint in endpoints if selects(endpoint.labels, wanted)]
            if known and not endpoints:
                message = f"subset `{label}` of {service.host} selects no endpoint: requests get 503"
                self.context.sink.warning("L7FP309", chosen.span, message, f"no Pod has the labels {wanted}")
        settings = _effective(rule.policy, chosen, port)
        self.made[name] = Cluster(
            name=name,
            host=service.host,
            port=port,
            subset=label,
            load_balancer=_balancer(settings),
            endpoints=tuple(
                Endpoint(address=e.address, port=e.port, workload=e.workload, weight=e.weight, span=e.span)
                for e in sorted(endpoints, key=lambda e: (e.address, e.port))
            ),
            connect_timeout_ms=_connect_timeout_ms(settings),
            span=service.span if chosen is None else chosen.span,
        )
        return name

    def _rules_by_host(self, ast: Ast) -> dict[str, list[tuple[Object, DestinationRule]]]:
        by_host: dict[str, list[tuple[Object, DestinationRule]]] = defaultdict(list)
        sink = self.context.sink
        for item, rule in ast.of(DestinationRule):
            selector = rule.workload_selector
            if selector is not None and selector.match_labels:
                reason = f"{item}: a rule for some clients only isn't applied"
                sink.error("L7FP402", selector.span, reason, "remove workloadSelector")
            elif selector is not None:
                hint = "remove it"
                sink.warning("L7FP308", selector.span, f"{item}: workloadSelector is empty", hint)
            if rule.export_to and "*" not in [scope.value for scope in rule.export_to]:
                hint = "it holds for clients of all namespaces here"
                sink.warning("L7FP401", rule.export_to[0].span, f"{item}: exportTo is not enforced", hint)
            host = fqdn(rule.host.value, item.namespace)
            by_host[host].append((item, rule))
            used = [name for name in self.context.services if name == host or wildcard_matches(host, name)]
            if not used:
                guess = did_you_mean(host, self.context.services)
                message = f"{item}: no service {host} is in the input; the rule has no effect"
                sink.warning("L7FP310", rule.host.span, message, guess or "add the Service or ServiceEntry")
        return by_host

    def _rule(self, service: ServiceInfo) -> _Rule:
        if service.host not in self._of_service:
            self._of_service[service.host] = self._merged(service)
        return self._of_service[service.host]

    def _merged(self, service: ServiceInfo) -> _Rule:
        """Rules for the exact host, else for the longest wildcard; the service's namespace first, then the root's."""
        patterns = [host for host in self._by_host if wildcard_matches(host, service.host)]
        best = service.host if service.host in self._by_host else max(patterns, key=len, default="")
        found = self._by_host.get(best, [])
        chosen: list[tuple[Object, DestinationRule]] = []
        for namespace in (service.namespace, ROOT_NAMESPACE):
            chosen = chosen or [(item, rule) for item, rule in found if item.namespace == namespace]
        sink = self.context.sink
        if not chosen and found:
            chosen = [(item, rule) for item, rule in found if item.namespace == found[0][0].namespace]
            message = (
                f"{chosen[0][0]} is for {service.host} of namespace {service.namespace}; it is applied to all clients"
            )
            hint = f"Istio applies it to clients of {chosen[0][0].namespace} only; move it to {service.namespace}"
            sink.warning("L7FP312", chosen[0][1].host.span, message, hint)
        for item, rule in found:
            if (item, rule) not in chosen:
                message = f"{item} loses against {chosen[0][0]} for {service.host}"
                sink.warning("L7FP312", rule.host.span, message, "keep one DestinationRule for a host")
        merged = _Rule()
        for item, rule in chosen:
            if merged.policy is None:
                merged.policy = rule.traffic_policy
            elif rule.traffic_policy is not None:
                message = f"{item}: another DestinationRule for this host already has a trafficPolicy, which holds"
                sink.warning("L7FP312", rule.traffic_policy.span, message, "merge the two")
            for subset in rule.subsets:
                if subset.name.value in merged.subsets:
                    message = f"{item}: subset `{subset.name.value}` is already defined for this host"
                    sink.error("L7FP304", subset.name.span, message, "give each subset its own name")
                merged.subsets.setdefault(subset.name.value, subset)
        return merged


Settings = TrafficPolicy | PortTrafficPolicy | None


def _effective(policy: TrafficPolicy | None, subset: Subset | None, port: int) -> tuple[Settings, Settings]:
    """What holds for a port: (first choice, fall-back). Settings for the port replace the others whole."""
    own = None if subset is None else subset.traffic_policy
    for candidate in (own, policy):
        for setting in () if candidate is None else candidate.port_level_settings:
            if setting.port is not None and setting.port.number.value == port:
                return setting, None
    return own, policy


def _balancer(settings: tuple[Settings, Settings]) -> LoadBalancer:
    """Unset is round robin here (Istio: least request), which the kernel can do."""
    for setting in settings:
        if setting is not None and setting.load_balancer is not None:
            simple = setting.load_balancer.simple
            return (
                LoadBalancer.ROUND_ROBIN if simple is None else _BALANCERS.get(simple.value, LoadBalancer.ROUND_ROBIN)
            )
    return LoadBalancer.ROUND_ROBIN


def _connect_timeout_ms(settings: tuple[Settings, Settings]) -> int:
    for setting in settings:
        if setting is not None and setting.connection_pool is not None:
            tcp = setting.connection_pool.tcp
            return CONNECT_TIMEOUT_MS if tcp is None or tcp.connect_timeout is None else tcp.connect_timeout.value
    return CONNECT_TIMEOUT_MS
