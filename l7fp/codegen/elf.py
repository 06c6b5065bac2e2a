"""What is in a BPF object, read before the kernel ever sees it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from l7fp.codegen.btf import Btf, MapInfo
from l7fp.errors import CompileError

MAX_OBJECT_BYTES = 4 << 20
MAX_INSTRUCTIONS = 100_000
_EM_BPF = 247
_R_BPF_64_64, _R_BPF_64_32 = 1, 10
_SHF_EXECINSTR, _SHF_ALLOC = 4, 2
_PROGRAM_TYPES = (
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "cgroup/getpeername4",
    "cgroup/getpeername6",
    "cgroup/getsockopt",
    "sk_lookup",
    "sk_msg",
    "sk_skb",
    "sockops",
    "syscall",
    "tc",
)
_CALLS = (".text",)  # functions that programs share


@dataclass(frozen=True, slots=True)
class Section:
    """A section. `kind` is ELF's sh_type without its SHT_."""

    name: str
    kind: str
    size: int
    executable: bool
    allocated: bool


@dataclass(frozen=True, slots=True)
class Program:
    """A program: a global function of a program section; `section` says what it attaches to."""

    name: str
    section: str
    instructions: int


@dataclass(frozen=True, slots=True)
class Relocation:
    """Something that the loader fills in: in `section`, of ELF type `kind`, towards `symbol` of `target`."""

    section: str
    kind: int
    symbol: str
    target: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """All of an object that matters for loading it."""

    size: int
    machine: int
    sections: tuple[Section, ...]
    programs: tuple[Program, ...]
    maps: tuple[MapInfo, ...]
    licence: str
    btf_bytes: int
    relocations: tuple[Relocation, ...]

    @property
    def instructions(self) -> int:
        """Instructions of all executable sections."""
        return sum(s.size // 8 for s in self.sections if s.executable)


def inspect(obj: bytes) -> ObjectInfo:
    """Read an object. Raises CompileError for bytes that are none."""
    try:
        elf = ELFFile(io.BytesIO(obj))
        sections = list(elf.iter_sections())
        names = [s.name for s in sections]
        licence = next((s.data() for s in sections if s.name == "license"), b"")
        btf = next((s.data() for s in sections if s.name == ".BTF"), b"")
        return ObjectInfo(
            size=len(obj),
            machine=elf.header["e_machine"] if isinstance(elf.header["e_machine"], int) else _machine(elf),
            sections=tuple(
                Section(
                    s.name,
                    str(s["sh_type"]).removeprefix("SHT_"),
                    s["sh_size"],
                    bool(s["sh_flags"] & _SHF_EXECINSTR),
                    bool(s["sh_flags"] & _SHF_ALLOC),
                )
                for s in sections
                if s.name
            ),
            programs=_programs(sections, names),
            maps=Btf(btf).maps() if btf else (),
            licence=licence.rstrip(b"\0").decode("ascii", "replace"),
            btf_bytes=len(btf),
            relocations=_relocations(elf, sections, names),
        )
    except (ELFError, ValueError, IndexError, KeyError) as e:
        raise CompileError(f"the compiler's output is no BPF object: {e}") from e


def _machine(elf: ELFFile) -> int:
    return _EM_BPF if elf.header["e_machine"] == "EM_BPF" else 0


def _symbols(sections: list[Any]) -> list[Any]:
    for section in sections:
        if isinstance(section, SymbolTableSection):
            return list(section.iter_symbols())
    return []


def _place(symbol: Any, names: list[str]) -> str:
    index = symbol["st_shndx"]
    return names[index] if isinstance(index, int) else ""


def _programs(sections: list[Any], names: list[str]) -> tuple[Program, ...]:
    out = []
    for symbol in _symbols(sections):
        where = _place(symbol, names)
        info = symbol["st_info"]
        if info["type"] == "STT_FUNC" and info["bind"] == "STB_GLOBAL" and where.startswith(_PROGRAM_TYPES):
            out.append(Program(symbol.name, where, symbol["st_size"] // 8))
    return tuple(sorted(out, key=lambda p: p.name))


def _relocations(elf: ELFFile, sections: list[Any], names: list[str]) -> tuple[Relocation, ...]:
    symbols = _symbols(sections)
    out = set()
    for section in sections:
        if not isinstance(section, RelocationSection):
            continue
        patched = elf.get_section(section["sh_info"])
        if not patched["sh_flags"] & _SHF_EXECINSTR:
            continue  # debug and type information: the loader does not touch the rest
        for entry in section.iter_relocations():
            symbol = symbols[entry["r_info_sym"]]
            target = _place(symbol, names)
            out.add(Relocation(patched.name, entry["r_info_type"], symbol.name or target, target))
    return tuple(sorted(out, key=lambda r: (r.section, r.symbol, r.kind)))


def check(info: ObjectInfo) -> None:
    """CompileError if the object is not what l7fp's sources make of a sound compiler."""
    problems = []
    if info.machine != _EM_BPF:
        problems.append("it is not for BPF")
    if info.size > MAX_OBJECT_BYTES or info.instructions > MAX_INSTRUCTIONS:
        problems.append(f"it is too large ({info.size} bytes, {info.instructions} instructions)")
    if info.licence != "GPL":
        problems.append(f"its licence is {info.licence!r}, the kernel's helpers need GPL")
    if not info.btf_bytes or not any(s.name == ".BTF.ext" for s in info.sections):
        problems.append("it has no type information (BTF)")
    if not info.programs:
        problems.append("it has no program")
    for section in info.sections:
        if section.executable and section.size and not section.name.startswith((*_PROGRAM_TYPES, *_CALLS)):
            problems.append(f"unknown program section {section.name}")
        if section.name.startswith((".data", ".bss", ".rodata")) and section.size:
            problems.append(f"unexpected variables in {section.name}")
    maps = {m.name for m in info.maps}
    for entry in info.relocations:
        is_map = entry.kind == _R_BPF_64_64 and entry.target == ".maps" and entry.symbol in maps
        is_call = entry.target in (*_CALLS, entry.section) and entry.kind in (_R_BPF_64_32, _R_BPF_64_64)
        if not is_map and not is_call:
            problems.append(f"unexpected relocation in {entry.section} to {entry.symbol or entry.target or 'nothing'}")
    if problems:
        raise CompileError("the compiled program is refused: " + "; ".join(problems[:3]))
