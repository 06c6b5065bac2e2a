"""The kernel's HTTP code as a shared library, driven by ctypes.

host = HostC(plan)
result = host.request(b"GET / HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n", port=80)
result.verdict, result.rule, result.data      # decided, and the message as edited or turned into a reply
"""

from __future__ import annotations

import ctypes
import functools
import struct
from dataclasses import dataclass

from l7fp import abi
from l7fp.codegen import cc, render
from l7fp.codegen.plan import Plan

ROOM = 8192  # bytes that a message may grow by


class _State(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in (
            "cell_mask",
            "blob_mask",
            "header_dfa",
            "response_header_dfa",
            "query_dfa",
            "method_dfa",
            "host_bits_dfa",
            "n_bits",
            "n_ports",
        )
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("source_bits", ctypes.c_uint64),
        ("source_ip_bits", ctypes.c_uint64),
        ("content_length", ctypes.c_uint64),
        ("len", ctypes.c_uint32),
        ("room", ctypes.c_uint32),
        ("fail_at", ctypes.c_uint32),
        ("port", ctypes.c_uint32),
        ("random", ctypes.c_uint32),
        ("is_head", ctypes.c_uint32),
        ("edit_number", ctypes.c_uint32),
        ("parsed", ctypes.c_uint32),
        ("verdict", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("rule", ctypes.c_uint32),
        ("dest", ctypes.c_uint32),
        ("reply", ctypes.c_uint32),
        ("edited", ctypes.c_int32),
        ("head_len", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    ]


@functools.cache
def library(*options: str) -> ctypes.CDLL:
    """The library, built once; `options` go to the compiler (sanitizers)."""
    out = ctypes.CDLL(str(cc.compile_host(render.render_host(), "host.c", options=options)))
    assert out.l7_host_call_size() == ctypes.sizeof(_Call)
    return out


@dataclass(frozen=True, slots=True)
class Result:
    """`verdict` None: the parser refused, by `reason`. `rule`, `dest`, `reply` are table indexes or None.

    `rule_name` is the source rule. `edited` is 0 unless an edit or reply failed. `data` is the message after it.
    """

    verdict: abi.Verdict
    reason: abi.Reason
    rule: int | None
    rule_name: str
    dest: int | None
    reply: int | None
    edited: int
    data: bytes
    parsed: abi.Reason
    content_length: int
    head_len: int
    status: int
    flags: int


class HostC:
    """The library with the tables of one plan. Another instance takes the tables over when it is used."""

    def __init__(self, plan: Plan, *options: str) -> None:
        self.plan = plan
        self.lib = library(*options)
        self.tables = {name: ctypes.create_string_buffer(data, len(data)) for name, data in plan.tables.items()}
        entries = b"".join(struct.pack("<I", port) + entry for port, entry in sorted(plan.ports.items()))
        self.ports = ctypes.create_string_buffer(entries, max(1, len(entries)))
        rule = abi.BY_NAME["rule"]
        rows = plan.tables["rules"]
        self.rules = [rule.unpack(rows[at : at + rule.size]) for at in range(0, len(rows), rule.size)]

    def use(self) -> None:
        """Point the library at this plan's tables."""
        plan = self.plan
        state = _State(
            plan.counts["cells"] - 1,
            plan.counts["blob"] - 1,
            plan.header_dfa,
            plan.response_header_dfa,
            plan.query_dfa,
            plan.method_dfa,
            plan.host_bits_dfa,
            plan.n_bits,
            len(plan.ports),
        )
        self.lib.l7_host_set(ctypes.byref(state), self.ports)
        for number, table in enumerate(abi.TABLES):
            self.lib.l7_host_set_table(number, self.tables[table.name], plan.counts[table.name])

    def request(
        self,
        data: bytes,
        *,
        port: int = 80,
        source_bits: int = 0,
        source_ip_bits: int = 0,
        random: int = 0,
        fail_at: int = 0,
    ) -> Result:
        """Parse, decide, and edit or answer. `random` is a u32 that picks the destination."""
        call = _Call(source_bits=source_bits, source_ip_bits=source_ip_bits, port=port, random=random, fail_at=fail_at)
        return self._run(self.lib.l7_host_request, call, data)

    def response(self, data: bytes, *, edit: int = abi.NONE, is_head: bool = False, fail_at: int = 0) -> Result:
        """Parse a response and apply edit number `edit`."""
        return self._run(self.lib.l7_host_response, _Call(is_head=is_head, edit_number=edit, fail_at=fail_at), data)

    def lookup(self, start: int, text: bytes) -> int:
        """Output of the automaton at cell `start`."""
        self.use()
        return int(self.lib.l7_host_lookup(start, text, len(text)))

    def _run(self, function: ctypes._NamedFuncPointer, call: _Call, data: bytes) -> Result:
        self.use()
        buffer = ctypes.create_string_buffer(data, len(data) + ROOM)
        call.buf, call.len, call.room = ctypes.addressof(buffer), len(data), len(data) + ROOM
        function(ctypes.byref(call))
        rule = None if call.rule == abi.NONE else call.rule
        counter = self.rules[rule]["counter"] if rule is not None else None
        return Result(
            verdict=abi.Verdict(call.verdict) if call.verdict else abi.Verdict.DIVERT,
            reason=abi.Reason(call.reason),
            rule=rule,
            rule_name=self.plan.rule_names[counter] if isinstance(counter, int) else "",
            dest=None if call.dest == abi.NONE else call.dest,
            reply=None if call.reply == abi.NONE else call.reply,
            edited=call.edited,
            data=buffer.raw[: call.len],
            parsed=abi.Reason(call.parsed),
            content_length=call.content_length,
            head_len=call.head_len,
            status=call.status,
            flags=call.flags,
        )
