"""`l7fp explain`: the decision about one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from l7fp.cli.output import Style, print_json, stdout_style
from l7fp.cli.render import place
from l7fp.errors import UsageError
from l7fp.source import NOWHERE

if TYPE_CHECKING:
    from l7fp.analysis.explain import Explanation
    from l7fp.ir.interp import Request, Source
    from l7fp.ir.model import Policy


@click.command("explain")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-r", "--request", required=True, metavar="'METHOD URL'", help="Such as 'GET http://reviews/reviews/0'.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="May be repeated.")
@click.option("--from", "workload", default="", metavar="WORKLOAD", help="Who asks: NAMESPACE/NAME or NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[str, ...], request: str, headers: tuple[str, ...], workload: str, as_json: bool) -> int:
    """Say what happens to a request, which rules led there, and whether the kernel would do it."""
    from l7fp.analysis import explain
    from l7fp.cli import pipeline

    policy, classification = pipeline.classified(files)
    parsed = parse_request(request, headers, _source(policy, workload))
    found = explain.explain(policy, classification, parsed)
    if as_json:
        print_json(_as_json(found))
    else:
        click.echo(_as_text(found, stdout_style()))
    return 0


def _source(policy: Policy, name: str) -> Source:
    from l7fp.analysis.explain import source_of
    from l7fp.ir.interp import Source

    if not name:
        return Source()
    if source := source_of(policy, name):
        return source
    import difflib

    known = [w.name for w in policy.workloads]
    near = difflib.get_close_matches(name, known, n=1) or known[:5]
    raise UsageError(f"no workload is called {name!r}", hint=f"one of {', '.join(near)}" if near else "none is known")


def parse_request(text: str, headers: tuple[str, ...], source: Source) -> Request:
    """`METHOD URL` and `NAME: VALUE` lines as a request. The URL's port is the service's port."""
    from l7fp.ir.interp import Request

    method, _, url = text.strip().partition(" ")
    parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if not method.isalpha() or not parts.hostname or not port or parts.scheme != "http":
        raise UsageError(f"{text!r} is not a request", hint="write it like 'GET http://reviews/reviews/0'")
    pairs = []
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"{line!r} is not a header", hint="write it like 'x-user: ada'")
        pairs.append((name.strip().lower(), value.strip()))
    return Request(
        port=port,
        method=method.upper() if method.islower() else method,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        authority=next((v for n, v in pairs if n == "host"), parts.netloc),
        headers=tuple((n, v) for n, v in pairs if n != "host"),
        source=source,
    )


def _outcome(found: Explanation) -> str:
    decision = found.decision
    if decision.kind.name == "FORWARD":
        to = decision.cluster
        if decision.endpoint:
            to += f" at {decision.endpoint.address}:{decision.endpoint.port}"
        return f"forwarded to {to}"
    words = {
        "rbac_access_denied": f"denied with {decision.status}",
        "redirect": f"redirected with {decision.status}",
        "direct_response": f"answered with {decision.status}",
    }
    said = words.get(decision.code, f"answered with {decision.status} ({decision.code})")
    return f"{said} by {decision.policy}" if decision.policy else said


def _as_text(found: Explanation, style: Style) -> str:
    decision, request = found.decision, found.request
    who = f" from {request.source.workload}" if request.source.workload else ""
    where = style.good("kernel") if found.in_kernel else style.warn("slow path")
    lines = [f"{style.strong(f'{request.method} http://{request.authority}{request.target}')}{who}"]
    lines.append(f"  {_outcome(found)}")
    if decision.rule:
        lines.append(f"  rule:   {decision.rule.name}" + _at(decision.rule.span))
    edited = decision.request
    if decision.kind.name == "FORWARD" and (edited.target, edited.authority) != (request.target, request.authority):
        lines.append(f"  sent as: {edited.method} {edited.target}, host {edited.authority}")
    if len(found.shares) > 1:
        total = sum(weight for _, weight in found.shares)
        shares = ", ".join(f"{100 * weight / total:.3g} % {cluster}" for cluster, weight in found.shares)
        lines.append(f"  shares: {shares}")
    lines.append(f"  where:  {where}")
    lines += [f"    {reason.message}{_at(reason.span)}; {reason.hint}".rstrip("; ") for reason in found.reasons]
    lines.append("  trail:")
    for step in decision.trail:
        mark = style.good("yes") if step.outcome else style.dim(" no")
        lines.append(f"    {mark}  {step.text}" + _at(step.span))
    return "\n".join(lines)


def _at(span: Any) -> str:
    return "" if span == NOWHERE else f"  ({span})"


def _as_json(found: Explanation) -> dict[str, Any]:
    decision, request = found.decision, found.request
    return {
        "request": {
            "method": request.method,
            "authority": request.authority,
            "target": request.target,
            "port": request.port,
            "from": request.source.workload or None,
        },
        "decision": decision.kind.name.lower(),
        "status": decision.status or None,
        "code": decision.code,
        "rule": decision.rule.name if decision.rule else None,
        "place": place(decision.rule.span) if decision.rule else None,
        "policy": decision.policy or None,
        "cluster": decision.cluster or None,
        "endpoint": f"{decision.endpoint.address}:{decision.endpoint.port}" if decision.endpoint else None,
        "shares": [{"cluster": cluster, "weight": weight} for cluster, weight in found.shares],
        "sent": {"target": decision.request.target, "authority": decision.request.authority},
        "where": "kernel" if found.in_kernel else "slow path",
        "reasons": [
            {"code": r.code, "place": place(r.span), "message": r.message, "hint": r.hint} for r in found.reasons
        ],
        "trail": [{"outcome": s.outcome, "text": s.text, "place": place(s.span)} for s in decision.trail],
    }
