"""The registry of fields: what each attribute of a request is and which executor can read it.

Classification asks nothing else: a field or matcher that gains a kernel reader is one change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from l7fp.ir.model import FieldKind, StringKind


class ValueType(Enum):
    """What a field holds, which says what kind of matcher it takes."""

    TEXT = "text"  # StringMatch
    ADDRESS = "address"  # CidrMatch
    PORT = "port"  # PortMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """One row. `kernel` is the set of string matchers the kernel reads the field with; for fields that
    are not text, and for `identity` fields (decided per workload before any request), `kernel_reads`
    alone counts. `limit` bounds the distinct matchers of one field, in bits of a match-result word."""

    kind: FieldKind
    type: ValueType = ValueType.TEXT
    named: bool = False
    identity: bool = False
    kernel_reads: bool = True
    kernel: frozenset[StringKind] = frozenset()
    limit: int | None = None
    doc: str


_AUTOMATON = frozenset(StringKind) - {StringKind.REGEX}
_VALUES = frozenset({StringKind.EXACT, StringKind.PREFIX, StringKind.SUFFIX, StringKind.PRESENT})
_WORD = 64

_ROWS = (
    FieldInfo(kind=FieldKind.PATH, kernel=_AUTOMATON, doc="normalised path without the query"),
    FieldInfo(kind=FieldKind.METHOD, kernel=_VALUES, limit=_WORD, doc="request method"),
    FieldInfo(kind=FieldKind.AUTHORITY, kernel=_VALUES, limit=_WORD, doc="Host as sent, port included"),
    FieldInfo(kind=FieldKind.SCHEME, kernel_reads=False, doc="http or https"),
    FieldInfo(kind=FieldKind.HEADER, named=True, kernel=_VALUES, limit=_WORD, doc="request header"),
    FieldInfo(
        kind=FieldKind.QUERY,
        named=True,
        kernel=frozenset({StringKind.EXACT, StringKind.PREFIX, StringKind.PRESENT}),
        limit=_WORD,
        doc="query parameter, not decoded; the first of several",
    ),
    FieldInfo(kind=FieldKind.SOURCE_IP, type=ValueType.ADDRESS, limit=_WORD, doc="address of the client workload"),
    FieldInfo(
        kind=FieldKind.REMOTE_IP,
        type=ValueType.ADDRESS,
        kernel_reads=False,
        doc="original client address; no proxy hop is trusted, so the source's",
    ),
    FieldInfo(
        kind=FieldKind.SOURCE_PRINCIPAL, identity=True, limit=_WORD, doc="client identity, cluster.local/ns/NS/sa/SA"
    ),
    FieldInfo(kind=FieldKind.SOURCE_NAMESPACE, identity=True, limit=_WORD, doc="namespace of the client workload"),
    FieldInfo(kind=FieldKind.SOURCE_LABEL, named=True, identity=True, limit=_WORD, doc="label of the client workload"),
    FieldInfo(kind=FieldKind.REQUEST_PRINCIPAL, kernel_reads=False, doc="issuer/subject of a JWT; never known"),
    FieldInfo(
        kind=FieldKind.DESTINATION_IP,
        type=ValueType.ADDRESS,
        kernel_reads=False,
        doc="destination address: of the connection for routes, of the endpoint for authorization",
    ),
    FieldInfo(
        kind=FieldKind.DESTINATION_PORT,
        type=ValueType.PORT,
        limit=_WORD,
        doc="destination port: of the connection for routes, of the endpoint for authorization",
    ),
    FieldInfo(kind=FieldKind.SNI, kernel_reads=False, doc="TLS server name; never known"),
)

FIELDS: Mapping[FieldKind, FieldInfo] = MappingProxyType({row.kind: row for row in _ROWS})
