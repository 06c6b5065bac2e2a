"""`l7fp status`: what is loaded and what it has done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from l7fp.cli.options import instance_option
from l7fp.cli.output import Style, print_json, stdout_style, table
from l7fp.errors import UnavailableError


@click.command("status")
@instance_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(instance: str, as_json: bool) -> int:
    """Show what an instance has done: requests by rule, why some were diverted, servers and their pools.

    Exits 1 when nothing is loaded, or when no process serves what is.
    """
    found = collect(instance)
    if as_json:
        print_json(found)
    else:
        click.echo(as_text(found, stdout_style()))
    return int(not found["loaded"] or not found["serving"])


def collect(instance: str) -> dict[str, Any]:
    """What the agent says; what is pinned when no agent answers."""
    from slowpath.agent.admin import ask

    try:
        answer = ask(instance, {"op": "status"})
    except UnavailableError:
        return {"instance": instance, "serving": False, **_pinned(instance)}
    answer.pop("ok", None)
    return {"instance": instance, "loaded": True, "serving": True, **answer, "offload": offload(answer)}


def _pinned(instance: str) -> dict[str, Any]:
    from l7fp.errors import LoadError
    from l7fp.loader.loader import Loader

    try:
        with Loader(instance=instance) as loader:
            return {"loaded": True, **loader.status()}
    except LoadError:
        return {"loaded": False}


def offload(status: Mapping[str, Any]) -> float | None:
    """Share of requests that the kernel dealt with, None before the first one.

    The proxy counts requests; what the kernel counts as diverted are messages, of which a large body has many.
    """
    kernel = status["stats"].get("forwarded", 0) + status["stats"].get("replied", 0)
    slow = status["proxy"]["requests"]["total"]
    return kernel / (kernel + slow) if kernel + slow else None


def _listed(counts: Mapping[str, int]) -> str:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {n:,}" for name, n in most_first)


def as_text(found: Mapping[str, Any], style: Style) -> str:
    """For people."""
    name = found["instance"]
    if not found["loaded"]:
        return f"{name}: nothing is loaded"
    if not found["serving"]:
        where = f"version {found['version']} is loaded on {found['cgroup']}"
        what = f"{style.bad('no process serves it')}: new connections to its services are refused"
        return f"{name}: {where}, but {what}\n  {style.dim('hint:')} l7fp run, or l7fp unload"
    lines = [
        f"{style.strong(name)}: version {found['version']}, process {found['pid']}, up {found['uptime_s']:,.0f} s, "
        f"{found['connections']} connections"
    ]
    share = found["offload"]
    lines.append(
        "offload: " + ("no requests yet" if share is None else f"{100 * share:.1f} % of requests in the kernel")
    )
    rows = [["rule", "forwarded", "replied", "diverted"]]
    rows += [[r["name"], *(f"{r[k]:,}" for k in ("forwarded", "replied", "diverted"))] for r in _used(found["rules"])]
    if len(rows) > 1:
        lines.append(table(rows, right=(1, 2, 3)))
    if found["diverted"]:
        lines.append(f"diverted because of: {_listed(found['diverted'])}")
    if found["endpoints"]:
        lines.append(_endpoints(found["endpoints"]))
    return "\n".join(lines)


def _used(rules: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [r for r in rules if r["forwarded"] or r["replied"] or r["diverted"]]


def _endpoints(endpoints: Iterable[Mapping[str, Any]]) -> str:
    rows = [[str(value) for value in item.values()] for item in endpoints]
    header = [str(key) for item in list(endpoints)[:1] for key in item]
    return table([header, *rows])
