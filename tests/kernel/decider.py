"""The decision code in the kernel, behind BPF_PROG_TEST_RUN, with the tables of a plan."""

from __future__ import annotations

import struct
from typing import NamedTuple

from l7fp.codegen import cc, render
from l7fp.codegen.plan import Plan
from l7fp.codegen.tables import element_size
from l7fp.loader import libbpf, sys
from tests.unit.templates import http1_kernel as wrapper

_ZERO = b"\0\0\0\0"
_FLOW, _DECISION = 24, 24  # bytes at the end of struct l7_test, padding included


class Decision(NamedTuple):
    """Numbers as in C; without meaning where the parser refused, by `parsed`."""

    parsed: int
    verdict: int
    reason: int
    rule: int
    dest: int
    reply: int


class Decider(wrapper.Kernel):
    """The wrapper program with the tables of a plan."""

    def __init__(self, plan: Plan, compiler: str = "auto") -> None:
        sources = render.render(plan) | {"tc_test.bpf.c": render.template_text("tc_test.bpf.c")}
        self.object = libbpf.Object(cc.compile_bpf(sources, "tc_test.bpf.c", compiler=compiler), name="tc_decide")
        self.object.load()
        for name, data in plan.tables.items():
            if name in self.object.maps:
                size = len(data) if name in render.WHOLE_TABLES else element_size(name)
                for i in range(len(data) // size):
                    sys.map_update(self.object.maps[name].fd, struct.pack("<I", i), data[i * size : (i + 1) * size])
        for port, entry in plan.ports.items():
            sys.map_update(self.object.maps["ports"].fd, struct.pack("<I", port), entry)
        self.program = self.object.programs["tc_test"].fd
        self.test = self.object.maps["test"]

    def decide(self, message: bytes, *, port: int, source_bits: int, random: int, source_ip_bits: int = 0) -> Decision:
        """What becomes of a request."""
        size = self.test.shape[2]
        value = bytearray(size)
        struct.pack_into("<I", value, 4, random)
        struct.pack_into("<IIQQ", value, size - _FLOW - _DECISION, port, 0, source_bits, source_ip_bits)
        sys.map_update(self.test.fd, _ZERO, bytes(value))
        self.test_run(wrapper.DECIDE, message)
        found = sys.map_lookup(self.test.fd, _ZERO, size)
        assert found
        (parsed,) = struct.unpack_from("<I", found)
        return Decision(parsed, *struct.unpack_from("<5I", found, size - _DECISION))

    def change(self, op: int, message: bytes, arg: int) -> tuple[int, bytes]:
        """Result of an edit or reply, and the message after it."""
        ran = self.test_run(op, message, arg=arg)
        found = sys.map_lookup(self.test.fd, _ZERO, self.test.shape[2])
        assert found
        return int(struct.unpack_from("<i", found)[0]), ran.data
