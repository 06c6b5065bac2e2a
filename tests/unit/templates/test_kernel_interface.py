"""`helpers.h` against the kernel's own description of its interface, as the zig wheel brings it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.templates.http1 import TEMPLATES

TEXT = (TEMPLATES / "helpers.h").read_text()
HELPERS = re.findall(r"L7_HELPER\([^,]+, (\w+), (\d+)", TEXT)
NUMBERS = re.findall(r"\b(BPF_MAP_TYPE_\w+|BPF_SOCK_OPS_\w+_CB) = (\d+)", TEXT)
FLAGS = re.findall(r"#define (BPF_\w+) (\(.*\))", TEXT)
LAYOUTS = TEXT[TEXT.index("struct bpf_sock {") : TEXT.index("#define L7_HELPER(")]
STRUCTS = re.findall(r"^struct (\w+) \{\n(.*?)\n\};", LAYOUTS, re.M | re.S)
PRELUDE = """
#include <linux/bpf.h>
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64; typedef __s32 s32; typedef __s64 s64;
#define L7_CTX_PTR(type, name) union { type name; u64 name##_u64; } __attribute__((aligned(8)))
"""


def test_numbers_flags_and_layouts_are_the_kernel_s(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="install the extra l7fp[cc]")
    claims = [f"BPF_FUNC_{name} == {number}" for name, number in HELPERS]
    claims += [f"{name} == {value}" for name, value in [*NUMBERS, *FLAGS]]
    for name, body in STRUCTS:
        for plain, pointer in re.findall(r"\b(\w+)(?:\[\d\])?;|L7_CTX_PTR\([^,]+, (\w+)\)", body):
            field = plain or pointer
            if field != "_zero":
                claims.append(
                    f"__builtin_offsetof(struct {name}, {field}) == __builtin_offsetof(struct my_{name}, {field})"
                )
        if name != "__sk_buff":  # only its first part is declared
            claims.append(f"sizeof(struct {name}) == sizeof(struct my_{name})")
    assert len(HELPERS) > 30
    assert len(STRUCTS) >= 7
    text = PRELUDE + re.sub(r"^struct (\w+) \{", r"struct my_\1 {", LAYOUTS, flags=re.M)
    text += "".join(f'_Static_assert({claim}, "{claim}");\n' for claim in claims)
    (tmp_path / "claims.c").write_text(text)
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "x86_64-linux-musl",
        "-c",
        "claims.c",
        "-o",
        "claims.o",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
