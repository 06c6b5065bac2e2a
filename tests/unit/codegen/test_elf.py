"""Objects are read and refused before the kernel sees them."""

from __future__ import annotations

import pytest

from l7fp.codegen import cc, elf, render
from l7fp.codegen.btf import Btf
from l7fp.errors import CompileError
from tests.unit.codegen.policies import planned, sample

HEAD = '#include "helpers.h"\n'
LICENCE = 'char LICENSE[] SEC("license") = "GPL";\n'
PROGRAM = 'SEC("sk_msg") int f(struct sk_msg_md *m) { return m->size; }\n'


def compiled(text: str) -> elf.ObjectInfo:
    helpers = render.template_text("helpers.h")
    return elf.inspect(cc.compile_bpf({"helpers.h": helpers, "a.bpf.c": HEAD + text}, "a.bpf.c"))


def test_maps_are_read_from_type_information() -> None:
    plan = planned(sample())
    maps = {m.name: m for m in elf.inspect(cc.compile_bpf(render.render(plan), "policy.bpf.c")).maps}
    assert (maps["cells"].type, maps["cells"].key_size, maps["cells"].max_entries) == (2, 4, 1)
    assert maps["cells"].value_size == len(plan.tables["cells"])
    assert maps["code"].max_entries == plan.counts["code"]
    assert maps["code"].value_size == 16
    assert (maps["source_ip"].type, maps["source_ip"].key_size, maps["source_ip"].flags) == (11, 20, 1)
    assert maps["scratch"].type == 24


def test_programs_carry_their_sections() -> None:
    info = compiled(PROGRAM + LICENCE)
    assert [(p.name, p.section) for p in info.programs] == [("f", "sk_msg")]
    assert info.licence == "GPL"
    elf.check(info)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PROGRAM, "licence is ''"),
        (PROGRAM + LICENCE.replace("GPL", "MIT"), "licence is 'MIT'"),
        (LICENCE, "no program"),
        ('int counter = 5; SEC("sk_msg") int f(void *m) { return counter++; }\n' + LICENCE, "variables in .data"),
        ('int counter; SEC("sk_msg") int f(void *m) { return counter++; }\n' + LICENCE, "variables in .bss"),
        ('extern int away(void); SEC("sk_msg") int f(void *m) { return away(); }\n' + LICENCE, "relocation in sk_msg"),
        ('SEC("kprobe/x") int g(void *m) { return 0; }\n' + PROGRAM + LICENCE, "unknown program section kprobe/x"),
    ],
)
def test_unsound_objects_are_refused(text: str, why: str) -> None:
    with pytest.raises(CompileError, match="refused") as caught:
        elf.check(compiled(text))
    assert why in caught.value.message


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"no object at all" * 10])
def test_bytes_that_are_no_object(data: bytes) -> None:
    with pytest.raises(CompileError, match="no BPF object"):
        elf.inspect(data)


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb\x01\x00", b"\x00" * 40])
def test_bytes_that_are_no_type_information(data: bytes) -> None:
    with pytest.raises(ValueError, match="type information"):
        Btf(data)
