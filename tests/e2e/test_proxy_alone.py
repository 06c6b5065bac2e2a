"""The proxy as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from l7fp.ir.model import DirectResponse, Policy, RouteTable, VirtualHost, Workload
from l7fp.ir.printer import print_policy
from slowpath.server import identify_by_address, main
from tests.e2e.backend import Backend
from tests.e2e.proxy_under_test import cluster, route, rule
from tests.e2e.raw_client import Client


def host(*rules: object) -> tuple[VirtualHost, ...]:
    return (VirtualHost(name="v", domains=("*",), rules=rules),)  # type: ignore[arg-type]


def test_one_process_serves_several_service_ports_and_ends_on_sigterm(tmp_path: Path) -> None:
    with Backend() as backend:
        policy = Policy(
            tables=(
                RouteTable(port=80, virtual_hosts=host(rule(route("c"), name="a"))),
                RouteTable(port=81, virtual_hosts=host(rule(DirectResponse(status=418), name="b"))),
            ),
            clusters=(cluster("c", backend.port),),
        )
        file = tmp_path / "policy.ir"
        file.write_text(print_policy(policy))
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "slowpath.server",
                str(file),
                "--listen",
                "127.0.0.1:0=80",
                "--listen",
                "[::1]:0=81",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            ports = {}
            for _ in range(2):
                found = re.fullmatch(r"listening (\d+) (\d+)\n", process.stdout.readline())
                assert found
                ports[int(found[2])] = int(found[1])
            with Client(ports[80]) as client:
                assert client.get("/x").json()["line"] == "GET /x HTTP/1.1"
            with Client(ports[81], "::1") as client:
                assert client.get().status == 418
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            process.stdout.close()


def test_address_tells_who_a_client_is_unless_two_claim_it() -> None:
    policy = Policy(
        workloads=(
            Workload(name="a", namespace="n", addresses=("10.0.0.1",), labels=(("app", "a"),)),
            Workload(name="b", namespace="n", addresses=("10.0.0.2", "10.0.0.3")),
            Workload(name="c", namespace="n", addresses=("10.0.0.3",)),
        )
    )
    identify = identify_by_address(policy)
    known = identify("10.0.0.1")
    assert (known.workload, known.namespace, known.principal) == ("a", "n", "cluster.local/ns/n/sa/default")
    assert (known.labels, known.ip, known.conflict) == ((("app", "a"),), "10.0.0.1", False)
    assert identify("10.0.0.3").conflict
    assert identify("10.9.9.9").workload == ""


@pytest.mark.parametrize(
    ("text", "listen", "message"),
    [
        (None, "127.0.0.1:0=80", "No such file"),
        ("nonsense {", "127.0.0.1:0=80", "error: "),
        ("", "127.0.0.1:x=80", "invalid literal"),
        ("", "192.0.2.1:0=80", "Cannot assign"),
    ],
)
def test_what_cannot_be_served_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, listen: str, message: str
) -> None:
    file = tmp_path / "policy.ir"
    if text is not None:
        file.write_text(text or print_policy(Policy()))
    assert main([str(file), "--listen", listen]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
