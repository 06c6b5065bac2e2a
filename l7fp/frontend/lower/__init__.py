"""Typed AST to IR: names resolved, Istio's defaults made explicit.

Steps: workloads, services with endpoints, clusters (on demand), route tables, authorization. What
the input refers to and doesn't hold is a finding here (L7FP3xx).
"""

from __future__ import annotations

from l7fp.diagnostics import Diagnostics
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.lower import annotated, services, workloads
from l7fp.frontend.lower.authz import lower_authz
from l7fp.frontend.lower.clusters import Clusters
from l7fp.frontend.lower.context import Context
from l7fp.frontend.lower.hosts import route_tables
from l7fp.ir.model import Policy, Service, Workload
from l7fp.source import Span


def lower(ast: Ast, sink: Diagnostics) -> Policy:
    """The policy; meaningless when `sink.failed` afterwards."""
    ast = _unique(ast, sink)
    context = Context(sink)
    annotated.report(ast, sink)
    workloads.collect(ast, context)
    services.collect(ast, context)
    clusters = Clusters(ast, context)
    tables = route_tables(ast, context, clusters)
    authz = lower_authz(ast, context)
    return Policy(
        tables=tables,
        clusters=tuple(clusters.made[name] for name in sorted(clusters.made)),
        services=tuple(
            Service(
                host=service.host,
                namespace=service.namespace,
                addresses=service.addresses,
                ports=tuple(sorted(service.http_ports())),
                span=service.span,
            )
            for _, service in sorted(context.services.items())
            if service.http_ports()
        ),
        workloads=tuple(
            Workload(
                name=workload.name,
                namespace=workload.namespace,
                service_account=workload.service_account,
                labels=tuple(sorted(workload.labels.items())),
                addresses=workload.addresses,
                cgroup=workload.cgroup,
                policies=tuple(sorted(workload.policies)),
                span=workload.span,
            )
            for _, workload in sorted(context.workloads.items())
        ),
        authz=authz,
    )


def _unique(ast: Ast, sink: Diagnostics) -> Ast:
    """The first object of each kind, namespace and name."""
    seen: dict[tuple[str, str, str], Span] = {}
    kept: list[Object] = []
    for item in ast.objects:
        identity = item.kind, item.namespace, item.name
        if identity in seen and item.metadata.name is not None:
            message = f"{item} is given twice; first at {seen[identity]}"
            sink.error("L7FP213", item.span, message, "keep one of them")
            continue
        seen.setdefault(identity, item.span)
        kept.append(item)
    return Ast(objects=tuple(kept))
