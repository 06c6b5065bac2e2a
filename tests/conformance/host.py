"""The kernel's C code compiled for the host, with the tables of the case's policy."""

from __future__ import annotations

from functools import cache

from l7fp import abi
from l7fp.ir.model import Policy
from tests.conformance.compiled import UPSTREAM, Planned, planned
from tests.conformance.corpus import Case, Diverted, Outcome
from tests.hostc import HostC


class HostExecutor:
    """Parse, decide, edit or reply; the upstream's answer is edited as on its way back."""

    name = "host"

    def __enter__(self) -> HostExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, case: Case) -> Outcome | Diverted:
        """Play the case."""
        made, host = _host(case.policy)
        inputs = made.inputs(case)
        if isinstance(inputs, Diverted):
            return inputs
        result = host.request(
            case.raw,
            port=case.request.port,
            source_bits=inputs.source_bits,
            source_ip_bits=inputs.source_ip_bits,
            random=inputs.random,
        )
        if result.verdict is abi.Verdict.DIVERT:
            return Diverted(result.reason.name)
        if result.edited:
            return Diverted(f"change failed: {result.edited}")
        if result.verdict is abi.Verdict.REPLY:
            return made.replied(result.rule_name, result.data)
        assert result.dest is not None
        back = host.response(UPSTREAM, edit=made.edits(result.dest)[1])
        assert not back.edited
        response = None if back.parsed else back.data
        return made.forwarded(result.dest, result.rule_name, result.data, response)


@cache
def _host(policy: Policy) -> tuple[Planned, HostC]:
    made = planned(policy)
    return made, HostC(made.plan)
