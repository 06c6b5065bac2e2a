"""A real Envoy: one process, a listener for every kind of client, and one in front of every endpoint.

A request passes two of them, as it passes two sidecars in a mesh: the client's routes, the server's authorizes.
Listeners are Unix sockets.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.envoy import find_envoy
from bench.processes import spawn
from l7fp.ir.model import Cluster, Endpoint, PathNormalization, Policy, RouteTable
from l7fp.ir.request import Request, Source
from tests.conformance import loopback, wire
from tests.conformance.backend import Backend
from tests.conformance.corpus import Case, Outcome, Skipped, is_wanted
from tests.conformance.envoy_rbac import filters, identity
from tests.conformance.envoy_routes import PICK_HEADER, RULE_HEADER, InexpressibleError, Routes, domains
from tests.conformance.interpreter import choices, decide

Json = dict[str, Any]
Client = tuple[Policy, Request]
"""Who asks under which policy: a request without what is its own."""

_TURNS = 8  # of round robin, until the wanted endpoint's must have come
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
_MODES: dict[PathNormalization, Json] = {
    PathNormalization.NONE: {"normalize_path": False},
    PathNormalization.BASE: {"normalize_path": True},
    PathNormalization.MERGE_SLASHES: {"normalize_path": True, "merge_slashes": True},
    PathNormalization.DECODE_AND_MERGE_SLASHES: {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}


class _Config:
    """Listeners and clusters, each made once."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.listeners: list[Json] = []
        self.clusters: list[Json] = []
        self._known: dict[str, str] = {}

    def listener(self, mode: PathNormalization, routes: Json, http_filters: list[Json]) -> str:
        """Path of the socket of a listener for exactly this."""
        manager = {
            "@type": f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "generate_request_id": False,
            "strip_trailing_host_dot": True,
            "server_header_transformation": "PASS_THROUGH",
            **_MODES[mode],
            "route_config": routes,
            "http_filters": [
                *http_filters,
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}},
            ],
        }
        key = json.dumps(manager)
        if key not in self._known:
            self._known[key] = path = str(self._folder / f"l{len(self.listeners)}")
            chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
            self.listeners.append({"name": path, "address": _pipe(path), "filter_chains": [{"filters": [chain]}]})
        return self._known[key]

    def cluster(self, name: str, addresses: list[tuple[Json, int]]) -> str:
        """A cluster of these addresses and weights; its name, which begins with `name`."""
        key = json.dumps([name, addresses])
        if key not in self._known:
            self._known[key] = full = f"{name}~{len(self.clusters)}"
            endpoints = [{"endpoint": {"address": a}, "load_balancing_weight": weight} for a, weight in addresses]
            assignment = {"cluster_name": full, "endpoints": [{"lb_endpoints": endpoints}]}
            self.clusters.append({"name": full, "type": "STATIC", "load_assignment": assignment})
        return self._known[key]

    def server(self, policy: Policy, source: Source, endpoint: Endpoint) -> str:
        """The listener in front of an endpoint."""
        workload = next((w for w in policy.workloads if w.name == endpoint.workload), None)
        guards = [p for p in policy.authz if workload is not None and p.name in workload.policies]
        rbac = filters(guards, endpoint.port, endpoint.address)
        backend = {"socket_address": {"address": endpoint.address, "port_value": self._port}}
        to = self.cluster(endpoint.address, [(backend, 1)])
        route = {"match": {"prefix": "/"}, "route": {"cluster": to, "timeout": "5s"}}
        routes = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]}
        return self.listener(policy.path_normalization, routes, [*(identity(source) if rbac else []), *rbac])

    def upstream(self, policy: Policy, source: Source, cluster: Cluster) -> str:
        """A cluster of the policy, through its servers' listeners."""
        return self.cluster(
            cluster.name,
            [(_pipe(self.server(policy, source, e)), e.weight) for e in cluster.endpoints if e.weight > 0],
        )


class EnvoyExecutor:
    """Knows beforehand which cases it will be asked. Raises `UnavailableError` where Envoy is not installed."""

    name = "envoy"

    def __init__(self, cases: Iterable[Case]) -> None:
        self._program = find_envoy()
        cases = [case for case in cases if not case.request.source.conflict]
        self._backend = Backend(loopback.addresses(cases))
        self._folder = tempfile.TemporaryDirectory(prefix="l7fp-envoy-")
        self._clients: dict[Client, list[str] | str] = {}
        self._left_out: dict[tuple[Policy, str], str] = {}
        config = _Config(Path(self._folder.name), self._backend.port)
        for case in cases:
            client = _client(case)
            if client not in self._clients:
                try:
                    self._clients[client] = self._listeners(config, *client)
                except InexpressibleError as error:
                    self._clients[client] = str(error)
        self._config = {"static_resources": {"listeners": config.listeners, "clusters": config.clusters}}
        self._sockets = [listener["name"] for listener in config.listeners]

    def _listeners(self, config: _Config, policy: Policy, client: Request) -> list[str]:
        """Sockets to ask, one after the other while nobody claims the host."""
        moved = loopback.move(policy).policy
        table = next((t for t in moved.tables if t.port == client.port), RouteTable(port=client.port, virtual_hosts=()))
        names = {c.name: config.upstream(moved, client.source, c) for c in moved.clusters}
        routes = Routes(client, names)
        hosts = routes.hosts(table)
        self._left_out.update({(policy, rule): why for rule, why in routes.inexpressible.items()})
        ported = any(domain.rpartition(":")[2].isdigit() for domain in domains(table))
        as_sent = [{**h, "domains": [d for d in h["domains"] if d != "*"]} for h in hosts]
        tables: list[Json] = [{"virtual_hosts": [h for h in as_sent if h["domains"]]}] if ported else []
        tables.append({"virtual_hosts": hosts, "ignore_port_in_host_matching": True})
        return [config.listener(policy.path_normalization, made, []) for made in tables]

    def __enter__(self) -> EnvoyExecutor:
        self._backend.__enter__()
        folder = Path(self._folder.name)
        (folder / "envoy.json").write_text(json.dumps(self._config))
        self._log = folder / "log"
        command = [str(self._program), "-c", str(folder / "envoy.json"), "--disable-hot-restart", "--concurrency", "1"]
        with self._log.open("wb") as log:
            self._process = spawn([*command, "-l", "error"], stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 30
        while not all(map(_accepts, self._sockets)):
            if self._process.poll() is not None or time.monotonic() > end:
                error = self._log.read_text()[-2000:]
                self.__exit__()
                raise RuntimeError(f"Envoy did not start: {error}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._backend.__exit__()
        self._folder.cleanup()

    def run(self, case: Case) -> Outcome | Skipped:
        """Play the case; again for endpoints that round robin has not come to."""
        if case.request.source.conflict:
            return Skipped("an Envoy knows one identity of a client")
        sockets = self._clients[_client(case)]
        if isinstance(sockets, str):
            return Skipped(sockets)
        rule = decide(case.policy, case).rule
        if rule is not None and (case.policy, rule.name) in self._left_out:
            return Skipped(self._left_out[case.policy, rule.name])
        draw = choices(case)
        raw = case.raw
        if draw.destination is not None:
            raw = wire.with_header(raw, PICK_HEADER, str(draw.destination[0]))
        if case.request.source.ip:
            raw = wire.with_header(raw, "x-forwarded-for", case.request.source.ip)
        for _ in range(_TURNS):
            outcome = self._ask(case, sockets, raw)
            if draw.endpoint is None or is_wanted(case, outcome):
                break
        return outcome

    def _ask(self, case: Case, sockets: list[str], raw: bytes) -> Outcome:
        for path in sockets:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                response = wire.ask(client, raw)
            rule = response.get(RULE_HEADER)
            if rule is not None or response.words[1] != "404":
                break
        response = replace(response, headers=response.without(RULE_HEADER))
        return loopback.move(case.policy).outcome(response, rule)


def _client(case: Case) -> Client:
    return case.policy, replace(case.request, method="", target="/", authority="", headers=())


def _pipe(path: str) -> Json:
    return {"pipe": {"path": path}}


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True
