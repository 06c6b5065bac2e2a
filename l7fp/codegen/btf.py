"""The .BTF section of a BPF object, as far as map definitions need it (kernel: Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC = 0xEB9F
_PTR, _ARRAY, _STRUCT, _VAR, _DATASEC = 2, 3, 4, 14, 15
_MODIFIERS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag
# bytes that follow the common 12 of a type: fixed part, and part per member
_EXTRA = {
    1: (4, 0), 2: (0, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 7: (0, 0), 8: (0, 0), 9: (0, 0), 10: (0, 0),
    11: (0, 0), 12: (0, 0), 13: (0, 8), 14: (4, 0), 15: (0, 12), 16: (0, 0), 17: (4, 0), 18: (0, 0), 19: (0, 12),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MapInfo:
    """A map definition. Sizes are bytes, 0 where the definition doesn't say."""

    name: str
    type: int
    max_entries: int
    key_size: int
    value_size: int
    flags: int


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    size: int  # or the type referred to
    extra: bytes
    count: int


class Btf:
    """Parsed type information. ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        try:
            magic, version, _, header = struct.unpack_from("<HBBI", data)
            type_off, type_len, str_off, str_len = struct.unpack_from("<4I", data, 8)
        except struct.error as e:
            raise ValueError(f"type information is cut short: {e}") from e
        if magic != _MAGIC or version != 1:
            raise ValueError("no type information of a known version")
        self._strings = data[header + str_off : header + str_off + str_len]
        self._types: list[_Type] = [_Type("", 0, 0, b"", 0)]
        at, end = header + type_off, header + type_off + type_len
        while at < end:
            name, info, size = struct.unpack_from("<3I", data, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            if kind not in _EXTRA:
                raise ValueError(f"type kind {kind} is not known")
            length = _EXTRA[kind][0] + _EXTRA[kind][1] * count
            self._types.append(_Type(self._text(name), kind, size, data[at + 12 : at + 12 + length], count))
            at += 12 + length

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _resolve(self, number: int) -> _Type:
        found = self._types[number]
        while found.kind in _MODIFIERS:
            found = self._types[found.size]
        return found

    def size_of(self, number: int) -> int:
        """Bytes of a type."""
        found = self._resolve(number)
        if found.kind == _ARRAY:
            element, _, count = struct.unpack("<3I", found.extra)
            return self.size_of(element) * int(count)
        return 8 if found.kind == _PTR else found.size

    def _number(self, pointer: int) -> int:
        """`__uint(x, n)` is a pointer to an array of n."""
        array = self._resolve(self._resolve(pointer).size)
        return int(struct.unpack("<3I", array.extra)[2]) if array.kind == _ARRAY else 0

    def maps(self) -> tuple[MapInfo, ...]:
        """The definitions in section .maps, by name."""
        out = []
        for section in self._types:
            if section.kind != _DATASEC or section.name != ".maps":
                continue
            for variable, _, _ in struct.iter_unpack("<3I", section.extra):
                var = self._types[variable]
                out.append(self._map(var.name, self._resolve(var.size)))
        return tuple(sorted(out, key=lambda m: m.name))

    def _map(self, name: str, definition: _Type) -> MapInfo:
        members = {self._text(n): t for n, t, _ in struct.iter_unpack("<3I", definition.extra)}
        numbers = {key: self._number(t) for key, t in members.items() if key not in ("key", "value", "values")}
        sizes = {key: self.size_of(self._resolve(t).size) for key, t in members.items() if key in ("key", "value")}
        return MapInfo(
            name,
            numbers.get("type", 0),
            numbers.get("max_entries", 0),
            sizes.get("key", numbers.get("key_size", 0)),
            sizes.get("value", numbers.get("value_size", 0)),
            numbers.get("map_flags", 0),
        )
