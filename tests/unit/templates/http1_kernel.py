"""The same code in the kernel, behind BPF_PROG_TEST_RUN: `Kernel` answers as `http1.Host` does."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from l7fp.codegen import cc, render
from l7fp.codegen.tables import element_size
from l7fp.loader import libbpf, sys
from l7fp.loader.sys import Cmd
from tests.unit.templates.http1 import TEMPLATES, Compiled, Head, Outcome, Spec, compile_spec

ETHERNET = b"\x02" * 12 + b"\x88\xb5"
"""test_run wants a frame, of no known protocol lest it look further; the program skips these bytes."""

MAX_MESSAGE = 3000
"""What fits into the linear part of test_run's buffer, with room for what an edit adds."""

REQUEST, RESPONSE, EDIT_REQUEST, EDIT_RESPONSE, REPLY, CHUNKED, DECIDE, NOTHING = range(8)
_CB_OFFSET = 48  # of __sk_buff.cb
_HEAD_OFFSET = 8  # of l7_test.head; the result is first


class _TestRun(ctypes.Structure):
    """`union bpf_attr` of BPF_PROG_TEST_RUN."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("prog_fd", "retval", "data_size_in", "data_size_out")),
        *((name, ctypes.c_uint64) for name in ("data_in", "data_out")),
        *((name, ctypes.c_uint32) for name in ("repeat", "duration", "ctx_size_in", "ctx_size_out")),
        *((name, ctypes.c_uint64) for name in ("ctx_in", "ctx_out")),
        *((name, ctypes.c_uint32) for name in ("flags", "cpu", "batch_size", "_pad")),
    )


def sources(compiled: Compiled) -> dict[str, str]:
    """Every header of the program, with `abi.h` and `tables.h` for these tables."""
    plain = {path.name: path.read_text() for path in TEMPLATES.iterdir() if path.suffix in (".h", ".c")}
    return plain | {"abi.h": render.abi_header(), "tables.h": compiled.header(host=False)}


def fill(maps: dict[str, libbpf.Map], compiled: Compiled) -> None:
    """Write the tables into the maps of a loaded object."""
    for name, data in compiled.data.items():
        if name not in maps:
            continue
        size = len(data) if name in render.WHOLE_TABLES else element_size(name)
        for i in range(len(data) // size):
            sys.map_update(maps[name].fd, struct.pack("<I", i), data[i * size : (i + 1) * size])


@dataclass(frozen=True)
class Ran:
    """`ns` of one run on average; `data` is the message afterwards."""

    data: bytes
    ns: int


class Kernel:
    """The code with the tables of one policy, loaded. A context manager."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        compiled = compile_spec(spec)
        self.object = libbpf.Object(cc.compile_bpf(sources(compiled), "tc_test.bpf.c"), name="tc_test")
        self.object.load()
        fill(self.object.maps, compiled)
        self.program = self.object.programs["tc_test"].fd
        self.test = self.object.maps["test"]

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.object.close()

    def test_run(self, op: int, message: bytes, *, arg: int = 0, is_head: bool = False, repeat: int = 1) -> Ran:
        data = ctypes.create_string_buffer(ETHERNET + message, len(ETHERNET) + len(message))
        out = ctypes.create_string_buffer(16384)
        context = ctypes.create_string_buffer(192)
        struct.pack_into("<III", context, _CB_OFFSET, op, arg, is_head)
        attr = _TestRun(
            prog_fd=self.program,
            data_size_in=len(data),
            data_size_out=len(out),
            data_in=ctypes.addressof(data),
            data_out=ctypes.addressof(out),
            repeat=repeat,
            ctx_size_in=len(context),
            ctx_in=ctypes.addressof(context),
        )
        sys.bpf(Cmd.PROG_TEST_RUN, attr)
        return Ran(out.raw[len(ETHERNET) : attr.data_size_out], attr.duration)

    def run(self, op: int, message: bytes, *, arg: int = 0, is_head: bool = False) -> Outcome:
        ran = self.test_run(op, message, arg=arg, is_head=is_head)
        value = sys.map_lookup(self.test.fd, b"\0\0\0\0", self.test.shape[2])
        assert value
        head = Head.from_buffer_copy(value, _HEAD_OFFSET)
        return Outcome(struct.unpack_from("<i", value)[0], head, ran.data, 0)

    def clear(self) -> None:
        """All state of the program to zero."""
        sys.map_update(self.test.fd, b"\0\0\0\0", bytes(self.test.shape[2]))
