"""Workloads: Pods and WorkloadEntries, and what identifies their processes."""

from __future__ import annotations

from l7fp.frontend import kubernetes, service_entry, wire
from l7fp.frontend.ast import Ast, Object
from l7fp.frontend.lower.context import Context, WorkloadInfo, texts

CGROUP_ANNOTATION = "l7fp.io/cgroup"


def collect(ast: Ast, context: Context) -> None:
    """Fill `context.workloads` from Pods and WorkloadEntries."""
    for item, pod in ast.of(kubernetes.Pod):
        _put(context, _pod(context, item, pod))
    for item, entry in ast.of(service_entry.WorkloadEntry):
        _put(context, _entry(context, item, entry))


def inline(context: Context, name: str, namespace: str, entry: service_entry.WorkloadEntry) -> WorkloadInfo:
    """A workload for an endpoint that is written in a mesh-internal ServiceEntry."""
    address = () if entry.address is None else (wire.canonical_ip(entry.address.value),)
    account = "default" if entry.service_account is None else entry.service_account.value
    made = WorkloadInfo(name, namespace, texts(entry.labels), account, address, "", entry.span)
    _put(context, made)
    return made


def _put(context: Context, made: WorkloadInfo) -> None:
    while made.name in context.workloads:
        made.name += "+"
    context.workloads[made.name] = made


def _pod(context: Context, item: Object, pod: kubernetes.Pod) -> WorkloadInfo:
    spec, status = pod.spec, pod.status
    addresses: list[str] = []
    if status is not None:
        found = [status.pod_ip, *(entry.ip for entry in status.pod_ips)]
        addresses = [wire.canonical_ip(address.value) for address in found if address is not None]
    account = None if spec is None else spec.service_account_name
    made = WorkloadInfo(
        name=f"{item.namespace}/{item.name}",
        namespace=item.namespace,
        labels=item.labels,
        service_account="default" if account is None else account.value,
        addresses=tuple(dict.fromkeys(addresses)),
        cgroup=_cgroup(context, item),
        span=item.span,
    )
    for container in () if spec is None else (*spec.containers, *spec.init_containers):
        for port in container.ports:
            if port.name is not None and port.container_port is not None:
                made.ports[port.name.value] = port.container_port.value
    if status is not None:
        ended = status.phase is not None and status.phase.value in ("Succeeded", "Failed")
        made.serving = not ended and item.metadata.deletion_timestamp is None
        made.not_ready = any(
            c.type is not None and c.type.value == "Ready" and c.status is not None and c.status.value == "False"
            for c in status.conditions
        )
    return made


def _entry(context: Context, item: Object, entry: service_entry.WorkloadEntry) -> WorkloadInfo:
    address = entry.address
    literal = () if address is None or not wire.is_ip(address.value) else (wire.canonical_ip(address.value),)
    if address is not None and not literal:
        hint = "give the IP address"
        context.sink.warning("L7FP314", address.span, f"{item}: `{address.value}` isn't resolved by DNS", hint)
    return WorkloadInfo(
        name=f"{item.namespace}/{item.name}",
        namespace=item.namespace,
        labels={**item.labels, **texts(entry.labels)},
        service_account="default" if entry.service_account is None else entry.service_account.value,
        addresses=literal,
        cgroup=_cgroup(context, item),
        span=item.span,
        ports={name.value: port.value for name, port in entry.ports},
        weight=1 if entry.weight is None else entry.weight.value or 1,
    )


def _cgroup(context: Context, item: Object) -> str:
    path = item.annotation(CGROUP_ANNOTATION)
    if path is not None:
        bad = wire.cgroup(path.value)
        if bad is not None:
            context.sink.error(bad[0], path.span, f"{item}: {CGROUP_ANNOTATION}: {bad[1]}", bad[2])
        return path.value.strip("/")
    uid = item.metadata.uid
    return "" if uid is None else f"pod:{uid.value}"
