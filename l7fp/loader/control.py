"""Calls of the control program: changes to slots that only BPF can make, because it has atomic instructions."""

from __future__ import annotations

import ctypes

from l7fp import abi
from l7fp.loader.sys import Cmd, bpf


class _Ctl(ctypes.Structure):
    """`struct ctl` of `l7fp.abi`."""

    _fields_ = (
        ("op", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("arg", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("state", ctypes.c_uint64),
    )


assert ctypes.sizeof(_Ctl) == abi.BY_NAME["ctl"].size


class _TestRun(ctypes.Structure):
    """`union bpf_attr` of BPF_PROG_TEST_RUN."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class Control:
    """The program behind `fd`, callable from one thread."""

    def __init__(self, fd: int) -> None:
        self._ctl = _Ctl()
        self._attr = _TestRun(prog_fd=fd, ctx_size_in=ctypes.sizeof(self._ctl), ctx_in=ctypes.addressof(self._ctl))

    def __call__(self, op: abi.CtlOp, number: int, argument: int = 0) -> tuple[int, int]:
        """Run `op` on slot `number`; returns its result (0: done) and the slot's state before."""
        ctl = self._ctl
        ctl.op, ctl.id, ctl.arg, ctl.result, ctl.state = op, number, argument, 1, 0
        bpf(Cmd.PROG_TEST_RUN, self._attr)
        return ctl.result, ctl.state
