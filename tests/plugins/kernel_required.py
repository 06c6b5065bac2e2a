"""Where BPF works, a kernel test that skips has failed: `make test` must not pass by testing nothing.

Loaded with `-p tests.plugins.kernel_required`. A plain `pytest` run skips as usual.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Generator

import pytest

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD = 5
_SOCKET_FILTER = 1


def bpf_works() -> bool:
    """Whether this process can load the smallest program (`r0 = 0; exit`)."""
    number = _SYS_BPF.get(platform.machine())
    if number is None or os.geteuid() != 0:
        return False
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    head = struct.pack("<IIQQ", _SOCKET_FILTER, 2, ctypes.addressof(code), ctypes.addressof(licence))
    attr = ctypes.create_string_buffer(head.ljust(128, b"\0"))
    fd = int(ctypes.CDLL(None, use_errno=True).syscall(number, _PROG_LOAD, attr, 128))
    if fd < 0:
        return False
    os.close(fd)
    return True


_required = bpf_works()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip of a test marked `kernel` into a failure."""
    report = yield
    if _required and report.skipped and item.get_closest_marker("kernel") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"BPF works here, yet a kernel test did not run: {reason}"
    return report
