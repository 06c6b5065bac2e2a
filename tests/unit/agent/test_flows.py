"""From socket records to flows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l7fp.abi import SockFlag, SockKind
from l7fp.ir.model import Workload
from slowpath.agent.flows import Attribution, ip_text, ip_words
from slowpath.agent.kernel import SockState

REVIEWS = Workload(name="reviews-v1", namespace="shop", service_account="reviews", labels=(("app", "reviews"),))


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "255.255.255.255", "::1", "fd00::1:2", "2001:db8::ff"])
def test_addresses_survive_the_way_to_the_kernel_and_back(address: str) -> None:
    assert ip_text(ip_words(address)) == address


def test_a_mapped_address_is_its_ipv4_address_and_no_address_is_empty() -> None:
    assert ip_words("10.1.2.3") == (0, 0, 0xFFFF0000, 0x0302010A)
    assert ip_text((0, 0, 0, 0)) == ""


def state(**changes: int) -> SockState:
    base = SockState(
        kind=SockKind.ACCEPTED,
        id=9,
        orig_port=9080,
        workload=77,
        orig_ip=ip_words("10.9.9.9"),
        source_ip=ip_words("10.0.0.5"),
    )
    return replace(base, **changes)


def test_a_captured_connection_has_its_original_destination_and_the_workload_of_its_cgroup() -> None:
    flow = Attribution({77: REVIEWS}).flow(state())
    assert flow is not None
    assert (flow.port, flow.destination_ip, flow.conn_id, flow.peer) == (9080, "10.9.9.9", 9, "10.0.0.5")
    assert (flow.source.workload, flow.source.namespace, flow.source.ip) == ("reviews-v1", "shop", "10.0.0.5")
    assert flow.source.principal == "cluster.local/ns/shop/sa/reviews"
    assert not flow.source.conflict


def test_a_cgroup_that_no_workload_has_is_known_by_its_address_alone() -> None:
    flow = Attribution({77: REVIEWS}).flow(state(workload=78))
    assert flow is not None
    assert (flow.source.workload, flow.source.principal, flow.source.ip) == ("", "", "10.0.0.5")


def test_an_ambiguous_identity_is_marked_and_not_shared_with_others_of_the_workload() -> None:
    attribution = Attribution({77: REVIEWS})
    conflicted = attribution.flow(state(flags=SockFlag.IDENTITY_CONFLICT))
    plain = attribution.flow(state())
    assert conflicted is not None
    assert plain is not None
    assert (conflicted.source.conflict, plain.source.conflict) == (True, False)


@pytest.mark.parametrize("kind", [k for k in SockKind if k != SockKind.ACCEPTED])
def test_a_socket_that_capture_did_not_bring_has_no_flow(kind: SockKind) -> None:
    assert Attribution({}).flow(state(kind=kind)) is None
    assert Attribution({}).flow(None) is None


def test_a_new_policy_renames_connections_accepted_after_it() -> None:
    attribution = Attribution({77: REVIEWS})
    before = attribution.flow(state())
    attribution.replace({77: Workload(name="ratings", namespace="shop")})
    after = attribution.flow(state())
    assert before is not None
    assert after is not None
    assert (before.source.workload, after.source.workload) == ("reviews-v1", "ratings")
