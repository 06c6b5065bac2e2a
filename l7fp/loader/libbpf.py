"""ELF objects loaded through libbpf.so.1 by ctypes: relocation, BTF and the verifier's log are its work.

    with Object(elf, name="base") as obj:
        obj.maps["table"].set_max_entries(10)
        obj.load()
        fd = os.dup(obj.programs["entry"].fd)

File descriptors belong to the object and are closed with it; programs keep the maps they use.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from functools import cache
from types import TracebackType

from l7fp.errors import LoadError, UnavailableError

LIBRARY = "libbpf.so.1"
_LOG_BYTES = 16 << 20  # pages that the verifier doesn't write cost nothing
_TAIL_LINES = 6
_MESSAGE_BYTES = 4096


class _OpenOpts(ctypes.Structure):
    """`struct bpf_object_open_opts` of libbpf 1.0 and later."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("removed", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
        ("kernel_log_buf", ctypes.c_void_p),
        ("kernel_log_size", ctypes.c_size_t),
        ("kernel_log_level", ctypes.c_uint32),
    )


_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_POINTER, _INT, _U32, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_char_p
_PROTOTYPES: dict[str, tuple[type, tuple[type, ...]]] = {
    "bpf_object__open_mem": (_POINTER, (_POINTER, _SIZE, _POINTER)),
    "bpf_object__load": (_INT, (_POINTER,)),
    "bpf_object__close": (_POINTER, (_POINTER,)),
    "bpf_object__next_map": (_POINTER, (_POINTER, _POINTER)),
    "bpf_object__next_program": (_POINTER, (_POINTER, _POINTER)),
    "bpf_map__name": (_TEXT, (_POINTER,)),
    "bpf_map__fd": (_INT, (_POINTER,)),
    "bpf_map__type": (_INT, (_POINTER,)),
    "bpf_map__key_size": (_U32, (_POINTER,)),
    "bpf_map__value_size": (_U32, (_POINTER,)),
    "bpf_map__max_entries": (_U32, (_POINTER,)),
    "bpf_map__set_value_size": (_INT, (_POINTER, _U32)),
    "bpf_map__set_max_entries": (_INT, (_POINTER, _U32)),
    "bpf_map__reuse_fd": (_INT, (_POINTER, _INT)),
    "bpf_program__name": (_TEXT, (_POINTER,)),
    "bpf_program__fd": (_INT, (_POINTER,)),
    "bpf_program__type": (_INT, (_POINTER,)),
    "bpf_program__expected_attach_type": (_INT, (_POINTER,)),
    "libbpf_set_print": (_POINTER, (_Print,)),
}

_messages: list[str] = []
_vsnprintf = ctypes.CDLL(None).vsnprintf


def _keep(level: int, text: bytes, arguments: int) -> int:
    """libbpf's print callback: warnings go to `_messages`, nothing to stderr."""
    if level == 0 and len(_messages) < 100:
        buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        _vsnprintf(buffer, ctypes.c_size_t(_MESSAGE_BYTES), text, ctypes.c_void_p(arguments))
        _messages.append(buffer.value.decode(errors="replace").strip())
    return 0


_KEEP = _Print(_keep)  # referenced for as long as the library may call it


@cache
def library() -> ctypes.CDLL:
    """The shared library. Raises `UnavailableError` where there is none, or a 0.x one."""
    hint = "install it: apt install libbpf1 (or dnf install libbpf)"
    try:
        lib = ctypes.CDLL(LIBRARY, use_errno=True)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"{LIBRARY} can't be used: {error}", hint=hint) from error
    lib.libbpf_set_print(_KEEP)
    return lib


class Map:
    """A map that the object declares."""

    __slots__ = ("_handle", "_lib", "name")

    def __init__(self, handle: int) -> None:
        self._lib, self._handle = library(), handle
        self.name: str = self._lib.bpf_map__name(handle).decode()

    @property
    def fd(self) -> int:
        """Valid after `Object.load`."""
        return int(self._lib.bpf_map__fd(self._handle))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Type, key size, value size, entries, as declared or as set."""
        lib, handle = self._lib, self._handle
        sizes = (lib.bpf_map__key_size(handle), lib.bpf_map__value_size(handle), lib.bpf_map__max_entries(handle))
        return (int(lib.bpf_map__type(handle)), *sizes)

    def set_max_entries(self, count: int) -> None:
        """Before `Object.load`."""
        self._check(self._lib.bpf_map__set_max_entries(self._handle, count), "entries")

    def set_value_size(self, size: int) -> None:
        """Before `Object.load`; bytes."""
        self._check(self._lib.bpf_map__set_value_size(self._handle, size), "value size")

    def reuse(self, fd: int) -> None:
        """Use the existing map behind `fd` (which stays the caller's) instead of creating one."""
        self._check(self._lib.bpf_map__reuse_fd(self._handle, fd), "shared map")

    def _check(self, result: int, what: str) -> None:
        if result:
            raise LoadError(f"map {self.name}: can't set its {what}: {os.strerror(-result)}")


class Program:
    """A program of the object."""

    __slots__ = ("_handle", "_lib", "attach_type", "name", "type")

    def __init__(self, handle: int) -> None:
        self._lib, self._handle = library(), handle
        self.name: str = self._lib.bpf_program__name(handle).decode()
        self.type = int(self._lib.bpf_program__type(handle))
        self.attach_type = int(self._lib.bpf_program__expected_attach_type(handle))

    @property
    def fd(self) -> int:
        """Valid after `Object.load`."""
        return int(self._lib.bpf_program__fd(self._handle))


class Object:
    """An opened ELF object. Raises `LoadError` when it isn't one that libbpf accepts."""

    def __init__(self, elf: bytes, *, name: str) -> None:
        self.name = name
        self._lib = library()
        self._elf = ctypes.create_string_buffer(elf, len(elf))
        self._log = mmap.mmap(-1, _LOG_BYTES)
        options = _OpenOpts(
            sz=ctypes.sizeof(_OpenOpts),
            object_name=name.encode(),
            kernel_log_buf=ctypes.addressof(ctypes.c_char.from_buffer(self._log)),
            kernel_log_size=_LOG_BYTES,
        )
        _messages.clear()
        self._handle: int | None = self._lib.bpf_object__open_mem(self._elf, len(elf), ctypes.byref(options))
        if not self._handle:
            raise LoadError(f"the {name} object is not readable: {_said(ctypes.get_errno())}")
        self.maps = {m.name: m for m in map(Map, self._each("bpf_object__next_map"))}
        self.programs = {p.name: p for p in map(Program, self._each("bpf_object__next_program"))}

    def _each(self, function: str) -> list[int]:
        found: list[int] = []
        handle: int | None = None
        while handle := getattr(self._lib, function)(self._handle, handle):
            found.append(handle)
        return found

    def load(self) -> None:
        """Create the maps and have the kernel verify the programs.

        Raises `LoadError` with the end of the verifier's log; the whole log goes to a file that it names.
        """
        _messages.clear()
        result = self._lib.bpf_object__load(self._handle)
        if result:
            raise LoadError(
                self._failure(-result),
                hint="kernels from 6.1 on are supported; if this is one, please report it with the log",
            )

    def _failure(self, code: int) -> str:
        log = self._log[: max(self._log.find(b"\0"), 0)].decode(errors="replace").strip()
        if not log:
            return f"the kernel refused the {self.name} object: {_said(code)}"
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"l7fp-{self.name}-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write("\n".join([*_messages, log, ""]))
        tail = "\n".join(log.splitlines()[-_TAIL_LINES:])
        return f"the verifier refused the {self.name} object: {os.strerror(code)}; whole log in {file.name}\n{tail}"

    def close(self) -> None:
        """Free everything; loaded programs and maps live on only where something else refers to them."""
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = None

    def __enter__(self) -> Object:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _said(code: int) -> str:
    """What libbpf complained about, or the errno's text."""
    lines = [line.removeprefix("libbpf: ") for line in _messages]
    return "; ".join(lines[-3:]) or os.strerror(code)
