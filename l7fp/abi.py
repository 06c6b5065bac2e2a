"""The memory that kernel programs, loader and agent share: one description, two readers.

`STRUCTS` describes every record of a map. `codegen.render` writes the C header from it and the
loader and the agent build typed views from it, so the two sides cannot drift apart. Fields are
naturally aligned, little endian. A field marked `writer` has exactly one writer at any time:
`bpf`, `agent`, or `both` where all changes are atomic.

`CONSTANTS` are enumerations and limits that both sides use.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


@dataclass(frozen=True, slots=True)
class StructField:
    """`count` > 1 is an array. `doc` ends up as a comment in the C header."""

    name: str
    type: str
    count: int = 1
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Struct:
    """A C struct without implicit padding (checked at import)."""

    name: str
    doc: str
    fields: tuple[StructField, ...]

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return sum(_SIZES[f.type] * f.count for f in self.fields)

    def offset(self, name: str) -> int:
        """Byte offset of field `name`."""
        at = 0
        for f in self.fields:
            if f.name == name:
                return at
            at += _SIZES[f.type] * f.count
        raise KeyError(f"{self.name}.{name}")

    @property
    def format(self) -> str:
        """`struct` format of one record; an array counts as that many values."""
        return "<" + "".join(f"{f.count}{_CODES[f.type]}" for f in self.fields)

    def pack(self, **values: int | tuple[int, ...] | list[int]) -> bytes:
        """One record; fields not named are zero."""
        flat: list[int] = []
        for f in self.fields:
            value = values.pop(f.name, 0)
            if f.count == 1:
                assert isinstance(value, int), f.name
                flat.append(value)
            else:
                items = list(value) if not isinstance(value, int) else []
                flat.extend(items + [0] * (f.count - len(items)))
        if values:
            raise KeyError(f"{self.name} has no field {', '.join(values)}")
        return struct.pack(self.format, *flat)

    def unpack(self, data: bytes | memoryview) -> dict[str, int | tuple[int, ...]]:
        """The record's values by name."""
        flat = struct.unpack(self.format, data)
        out: dict[str, int | tuple[int, ...]] = {}
        at = 0
        for f in self.fields:
            out[f.name] = flat[at] if f.count == 1 else tuple(flat[at : at + f.count])
            at += f.count
        return out


def _struct(name: str, doc: str, *fields: tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, int]) -> Struct:
    made = [StructField(f[1], f[0], f[3] if len(f) == 4 else 1, f[2] if len(f) > 2 else "") for f in fields]
    out = Struct(name, doc, tuple(made))
    at = 0
    for field in made:
        assert at % _SIZES[field.type] == 0, f"{name}.{field.name} is not aligned"
        at += _SIZES[field.type] * field.count
    widest = max(_SIZES[field.type] for field in made)
    assert at % widest == 0, f"{name} ends unaligned"
    return out


# --- limits ------------------------------------------------------------------------------------

MAX_HEAD = 16384  # bytes of a request or response head that the kernel parses
MAX_CONNS = 65536  # client connections under management at a time
MAX_SLOTS = 16384  # pooled upstream connections
MAX_ENDPOINTS = 4096  # endpoints with a pool
MAX_POOL = 4096  # idle slots per endpoint
MAX_BITS = 32  # u64 words of match results per request (one a field)
MAX_REMOVES = 8  # header lines one edit may remove
MAX_REPLY = 4096  # bytes of a reply made in the kernel
MAX_STEPS = 4096  # decision-program instructions per request
BODY_LIMIT = 262144  # bytes of a body that the fast path carries; larger ones are relayed with back-pressure
DFA_DEAD = 0
DFA_SINK = 0x40000000  # header-cell flag: no further byte changes the outcome
DFA_HEADER = 0x80000000  # header-cell flag: tells a header cell from a transition cell
NONE = 0xFFFFFFFF


class SockKind(IntEnum):
    """What a managed socket is (`sock_state.kind`)."""

    NONE = 0
    CLIENT = 1  # C, in the sockhash
    SERVER = 2  # S, in the sockhash, peer of a slot's A2
    ACCEPTED = 3  # A1, the agent's side of C
    UPSTREAM = 4  # A2 of a slot, or with id 0 a slow-path upstream connection of the agent
    CLIENT_SLOW = 5  # C that must not be in the sockhash (MPTCP, map full)
    LISTENER = 6  # the agent's, tagged by it: whoever else binds the port after a crash is none


class SockFlag(IntFlag):
    """`sock_state.flags`."""

    IDENTITY_CONFLICT = 1  # creator and connector, or connector and sender, are different workloads


class ConnFlag(IntFlag):
    """`conn.flags`, set by BPF only."""

    CLOSED = 1  # C reached TCP_CLOSE: the id may be reused once the agent has closed A1
    IDENTITY_CONFLICT = 2
    RESET = 4  # an edited request could not be delivered: the agent must abort A1
    PIPELINES = 8  # C sends requests before it has the answers: slow path from then on


class SlotFlag(IntFlag):
    """High half of `slot.state`; the low half is the owner's connection id. All changes are atomic."""

    BUSY = 1 << 32  # a transaction is under way
    REQUEST_DONE = 1 << 33
    RESPONSE_STARTED = 1 << 34  # S began to answer on the fast path
    RESPONSE_DONE = 1 << 35
    CLAIMED = 1 << 36  # the agent answers this transaction (timeout, failure): S's bytes are swallowed
    ADOPTED = 1 << 37  # S's bytes reach A2 and the agent relays the response
    NO_REUSE = 1 << 38  # S said it will close
    DEAD = 1 << 39  # never again in a pool


class SockKeyKind(IntEnum):
    """High half of a sockhash key; the low half is the connection or slot id."""

    CLIENT = 1
    SERVER = 2


class RespMode(IntEnum):
    """`slot.resp_mode`: what S's next bytes are."""

    HEAD = 0
    LENGTH = 1  # body of known length, `resp_left` to go
    CHUNKED = 2
    RELAY_LENGTH = 3  # as LENGTH, but passed to A2
    RELAY_CHUNKED = 4
    ADOPT = 5  # head and body passed to A2 unparsed
    FENCE = 6  # the byte that was put behind the response, see server.h


class Verdict(IntEnum):
    """Outcome of `l7_decide`."""

    FORWARD = 1
    REPLY = 2
    DIVERT = 3


class RuleAction(IntEnum):
    """`rule.action`."""

    FORWARD = 1
    REPLY = 2
    SLOW = 3


class Op(IntEnum):
    """Decision-program instruction. A failed test jumps to `target`; else the next one runs."""

    END = 0  # result = target
    ALL = 1  # (bits[slot] & mask) == mask
    ANY = 2  # (bits[slot] & mask) != 0
    NONE = 3  # (bits[slot] & mask) == 0
    JUMP = 4  # go to target


class AuthzResult(IntEnum):
    """Low byte of an authorization program's result; the policy's index is in the rest."""

    ALLOW = 0
    DENY = 1
    SLOW = 2


class Bits(IntEnum):
    """Fixed slots of the match-result words; headers and query parameters follow from FIRST_NAMED."""

    METHOD = 0
    SOURCE = 1  # workload identity, from `source_bits`
    SOURCE_IP = 2
    PORT = 3
    HOST = 4
    FIRST_NAMED = 5


class HeaderKind(IntEnum):
    """`header_entry.kind`: headers that framing or safety depends on; POLICY has no such meaning."""

    OTHER = 0
    HOST = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    DIVERT = 5  # Expect, Upgrade, TE, Trailer, Proxy-Connection, Keep-Alive ...: slow path
    POLICY = 6


class PartKind(IntEnum):
    """`part.kind`: what a piece of a reply is copied from."""

    CONST = 0  # blob[off .. off+len]
    HOST = 1
    PATH = 2  # without its first `off` bytes
    QUERY = 3  # with its `?`, nothing if there is none


class PathOp(IntEnum):
    """`edit.path_op`."""

    KEEP = 0
    REPLACE_PREFIX = 1  # the first `path_strip` bytes
    REPLACE_ALL = 2


class Balance(IntEnum):
    """`cluster.balance`."""

    ROUND_ROBIN = 0
    RANDOM = 1


class Reason(IntEnum):
    """Why something took the slow path, and other events counted in `stats`."""

    NONE = 0
    FORWARDED = 1  # requests sent to a server by the kernel
    REPLIED = 2  # requests answered by the kernel
    RESPONSES = 3  # responses delivered to the client by the kernel
    BODY = 4  # body messages forwarded by the kernel
    # diverted requests (10..49); names are shown to users
    SLOW_MODE = 10  # earlier bytes of this connection are still with the slow path
    UNREAD_ANSWER = 11  # the client has not read the slow path's last answer
    PIPELINED = 12
    INCOMPLETE_HEAD = 13
    HEAD_TOO_LARGE = 14
    SYNTAX = 15  # outside the accepted HTTP/1.1 subset
    PATH_UNSAFE = 16  # the path needs normalisation
    TRANSFER_ENCODING = 17
    HOP_BY_HOP = 18  # Connection, Upgrade, Expect, TE ...
    BODY_UNEXPECTED = 19  # body on a method that has none
    BODY_TOO_LARGE = 20
    DUPLICATE_HEADER = 21  # of one that the policy looks at
    UNKNOWN_HOST = 22
    UNKNOWN_PORT = 23
    RULE_SLOW = 24  # the rule itself is for the slow path
    AUTHZ_SLOW = 25
    POOL_EMPTY = 26
    NO_ENDPOINT = 27  # none healthy, or none on this node
    IDENTITY = 28
    NO_MEMORY = 29  # a helper failed before anything was changed
    NO_POLICY = 30  # no program loaded
    RECEIVE_BUFFER = 31  # the client lets answers pile up unread
    DUPLICATE_QUERY = 32
    STEP_LIMIT = 33
    BODY_SLOT_LOST = 34  # the rest of a body whose server is gone was swallowed
    BODY_TRAILING = 35  # bytes after a request's body in the same message
    # responses (50..69)
    ADOPTED_RESPONSE = 50  # the agent relays a response the kernel declined
    RELAYED_BODY = 51
    STRAY_RESPONSE = 52  # bytes of a server that nobody waits for
    CLIENT_GONE = 53
    # connections (70..)
    CAPTURED = 70
    NOT_TCP = 71
    MPTCP = 72
    NO_CONN_ID = 73
    SOCKHASH_FULL = 74
    NO_LISTENER = 75  # connect refused: the agent has no listener in that network namespace yet
    RECONNECTED = 76
    BACKSTOP = 77  # a server refused what did not come through l7fp
    POOL_PUSH_LOST = 78
    RESET = 79
    MAX = 96


class EventType(IntEnum):
    """`event.type`."""

    REQUEST = 1  # transaction finished on the fast path
    REPLY = 2  # answered in the kernel
    DIVERT = 3
    NO_LISTENER = 4  # `conn` holds the pid
    RESET = 5
    TIMEOUT = 6  # the control program's sweep claimed `slot` for the agent: answer 504 on `conn`
    TIMEOUT_LATE = 7  # past its deadline with the response already started: the agent must abort


class CtlOp(IntEnum):
    """Operations of the control program that the agent runs by BPF_PROG_TEST_RUN (see `struct ctl`)."""

    CLAIM = 1  # the agent will answer slot `id` for `arg`: result 1 if the response started or `arg` is not the owner
    RELEASE = 2  # the agent has finished an adopted transaction: back to the pool (result 0), or not reusable (1)
    KILL = 3  # mark dead; result = state before
    OFFER = 4  # make slot `id` idle and push it to its endpoint's pool
    SWEEP = 5  # slots 1..`id`: claim those past their timeout and report each by an event; result = how many


STRUCTS: tuple[Struct, ...] = (
    # -- connection level, kept across policy versions
    _struct(
        "addr_key",
        "an address and port; IPv4 as ::ffff:a.b.c.d; network byte order words, host order port",
        ("u32", "ip", "", 4),
        ("u32", "port"),
    ),
    _struct("capture", "value of `captured`", ("u32", "flags")),
    _struct(
        "listener",
        "value of `listeners`, keyed by network namespace cookie: loopback ports, host order",
        ("u32", "port4"),
        ("u32", "port6"),
    ),
    _struct(
        "workload_id",
        "value of `workload_cgroups`, keyed by cgroup id: the workload's own address, zero if unknown",
        ("u32", "ip", "", 4),
    ),
    _struct(
        "flow_key",
        "a TCP connection as its active side sees it",
        ("u64", "netns", "cookie when either address is loopback, else 0"),
        ("u32", "src", "", 4),
        ("u32", "dst", "", 4),
        ("u32", "src_port"),
        ("u32", "dst_port"),
    ),
    _struct(
        "sock_state",
        "sk_storage of every managed socket",
        ("u64", "body_left", "CLIENT: request body bytes still to go to the slot"),
        ("u64", "cgroup_current", "of the process that connected"),
        ("u64", "cgroup_socket", "of the process that created the socket"),
        ("u64", "workload", "nearest ancestor cgroup in `workload_cgroups`, 0 if none"),
        ("u64", "cookie"),
        ("u64", "netns"),
        ("u32", "kind", "enum SockKind"),
        ("u32", "id", "connection id (CLIENT, ACCEPTED) or slot id (SERVER, UPSTREAM)"),
        ("u32", "seq0", "CLIENT: rcv_nxt when established"),
        ("u32", "protocol"),
        ("u32", "orig_ip", "", 4),
        ("u32", "orig_port"),
        ("u32", "flags", "enum SockFlag"),
        ("u32", "source_ip", "what SOURCE_IP conditions see", 4),
        ("u32", "redirected", "this message already has a redirect target, see divert.h"),
        ("u32", "tail", "the next run is on the rest of the same message"),
    ),
    _struct(
        "conn",
        "one client connection; index is the low 16 bits of its id, `id` guards against reuse",
        ("u64", "passed", "bpf: bytes that went to the slow path"),
        ("u64", "acked", "agent: of those, bytes consumed and answered"),
        ("u64", "sent", "agent: bytes written, or about to be, to A1"),
        ("u32", "id", "bpf: set when established"),
        ("u32", "slot", "bpf: slot of the current or last fast transaction"),
        ("u32", "flags", "bpf: enum ConnFlag"),
        ("u32", "_pad"),
        ("u64", "forwarded", "bpf"),
        ("u64", "replied", "bpf"),
        ("u64", "diverted", "bpf"),
    ),
    _struct(
        "slot",
        "one pooled upstream connection A2",
        ("u64", "state", "both, atomic: owner connection id | enum SlotFlag"),
        ("u64", "started_ns", "bpf (client side): ktime when the request left"),
        ("u64", "resp_left", "bpf (server side): body or chunk bytes to come"),
        ("u64", "resp_bytes", "bpf (server side): body bytes so far"),
        ("u64", "passed", "bpf (server side): response bytes that went to A2 in RELAY_* modes"),
        ("u64", "requests", "bpf (client side)"),
        ("u64", "server", "bpf: cookie of S; the server of an earlier use of this slot id may still be sending"),
        ("u32", "expect", "agent: 1 before it connects"),
        ("u32", "ready", "bpf: 1 when S is in the sockhash"),
        ("u32", "endpoint", "agent: endpoint id"),
        ("u32", "rule", "bpf (client side): rule, destination and policy version of the transaction"),
        ("u32", "dest"),
        ("u32", "version"),
        ("u32", "timeout_ms", "bpf (client side): 0 for none"),
        ("u32", "is_head", "bpf (client side): the request was HEAD"),
        ("u32", "resp_mode", "bpf (server side): enum RespMode"),
        ("u32", "chunk_state", "bpf (server side)"),
        ("u32", "status", "bpf (server side): of the response, 0 before it"),
        ("u32", "relay_done", "bpf (server side): once the response is all passed to A2: 1, or 2 if its framing broke"),
        ("u32", "chunk_digits", "bpf (server side)"),
        ("u32", "conn", "bpf (client side): id of the connection that owns it"),
        ("u32", "deadline_told", "bpf: the sweep has reported this transaction"),
        ("u32", "_pad"),
    ),
    _struct(
        "endpoint_state",
        "one endpoint, index is the endpoint id that the loader allocated for its address",
        ("u32", "usable", "agent: 1 when requests may be sent there by the kernel"),
        ("u32", "idle", "unused by BPF; the agent's view"),
        ("u64", "empty", "bpf: times its pool was found empty (approximate)"),
        ("u64", "requests", "bpf: requests sent (approximate)"),
    ),
    _struct(
        "config",
        "the one record of `config`",
        ("u32", "event_mask", "agent: bit per enum EventType"),
        ("u32", "version", "loader: of the policy in slot 0"),
        ("u32", "protect", "loader: 1 when the backstop refuses direct connections"),
        ("u32", "body_limit", "loader"),
    ),
    _struct(
        "event",
        "a record of the ring buffer",
        ("u64", "time_ns"),
        ("u64", "latency_ns"),
        ("u64", "bytes", "of the response body"),
        ("u32", "type", "enum EventType"),
        ("u32", "conn"),
        ("u32", "slot"),
        ("u32", "rule"),
        ("u32", "version"),
        ("u32", "endpoint"),
        ("u32", "status"),
        ("u32", "reason", "enum Reason"),
    ),
    _struct(
        "ctl",
        "argument and result of the control program",
        ("u32", "op", "enum CtlOp"),
        ("u32", "id", "slot id"),
        ("u32", "arg"),
        ("u32", "result"),
        ("u64", "state", "slot state before the operation"),
    ),
    # -- one policy version: tables that the compiler fills
    _struct(
        "instr",
        "decision-program instruction",
        ("u8", "op", "enum Op"),
        ("u8", "slot", "index of the word of match results"),
        ("u16", "_pad"),
        ("u32", "target"),
        ("u64", "mask"),
    ),
    _struct(
        "port_entry",
        "value of `ports`, keyed by destination port",
        ("u32", "host_dfa"),
        ("u32", "port_bits_low"),
        ("u32", "port_bits_high"),
        ("u32", "_pad"),
    ),
    _struct(
        "vhost",
        "virtual host; host automaton's output - 1 is its index",
        ("u32", "path_dfa", "output is a decision-program address + 1"),
        ("u32", "fallback", "decision-program address when the automaton yields nothing"),
    ),
    _struct(
        "header_entry",
        "a header the parser knows; header-name automaton's output is its index",
        ("u32", "kind", "enum HeaderKind"),
        ("u32", "slot", "word of match results, NONE if the policy only edits it"),
        ("u32", "value_dfa", "output is an index of `masks`; 0: presence only"),
        ("u32", "edit", "1-based number under which its place is remembered for edits, 0 if not edited"),
    ),
    _struct(
        "query_entry",
        "a query parameter; query-name automaton's output is its index",
        ("u32", "slot"),
        ("u32", "value_dfa"),
    ),
    _struct(
        "rule",
        "a routing rule, one per match of the source rule",
        ("u32", "action", "enum RuleAction"),
        ("u32", "counter", "index in `rule_counters`: the source rule"),
        ("u32", "reply", "REPLY: index of `replies`"),
        ("u32", "dest_first", "FORWARD: range in `dests`"),
        ("u32", "dest_count"),
        ("u32", "weight_total"),
        ("u32", "timeout_ms", "0 for none"),
        ("u32", "_pad"),
    ),
    _struct(
        "dest",
        "weighted destination",
        ("u32", "weight_upto", "cumulative weight, exclusive"),
        ("u32", "cluster"),
        ("u32", "authz", "index of `authz`, NONE for no policies"),
        ("u32", "request_edit", "index of `edits`, NONE for none"),
        ("u32", "response_edit"),
        ("u32", "_pad"),
    ),
    _struct(
        "cluster",
        "endpoints `first` .. `first+count` of `endpoints` (u32 endpoint ids, filled in by the loader)",
        ("u32", "balance", "enum Balance"),
        ("u32", "first"),
        ("u32", "count"),
        ("u32", "next", "bpf: round-robin cursor, atomic"),
    ),
    _struct(
        "authz",
        "authorization of a group of workloads, seen through one rule's rewrites",
        ("u32", "path_dfa", "output is a decision-program address + 1; 0: `program` alone decides"),
        ("u32", "program", "decision-program address when the automaton yields nothing"),
        ("u32", "reply", "index of `replies` for a denial"),
        ("u32", "_pad"),
    ),
    _struct(
        "edit",
        "changes to a head",
        ("u32", "remove_count"),
        ("u32", "remove", "header_entry.edit numbers", MAX_REMOVES),
        ("u32", "insert_off", "header lines to append to the head, in `blob`"),
        ("u32", "insert_len"),
        ("u32", "path_op", "enum PathOp"),
        ("u32", "path_strip"),
        ("u32", "path_off", "in `blob`"),
        ("u32", "path_len"),
        ("u32", "host_off", "in `blob`"),
        ("u32", "host_len", "0: keep"),
    ),
    _struct(
        "part", "a piece of a reply", ("u32", "kind", "enum PartKind"), ("u32", "off"), ("u32", "len"), ("u32", "_pad")
    ),
    _struct(
        "reply",
        "a reply made in the kernel: ranges of `parts`",
        ("u32", "first"),
        ("u32", "count"),
        ("u32", "head_count", "the first parts that make the head alone (answer to HEAD)"),
        ("u32", "status"),
    ),
)

BY_NAME: dict[str, Struct] = {s.name: s for s in STRUCTS}

ENUMS: tuple[type[IntEnum] | type[IntFlag], ...] = (
    SockKind, SockFlag, SockKeyKind, ConnFlag, SlotFlag, RespMode, Verdict, RuleAction, Op, AuthzResult, Bits,
    HeaderKind, PartKind, PathOp, Balance, Reason, EventType, CtlOp,
)  # fmt: skip

LIMITS: dict[str, int] = {
    "MAX_HEAD": MAX_HEAD, "MAX_CONNS": MAX_CONNS, "MAX_SLOTS": MAX_SLOTS, "MAX_ENDPOINTS": MAX_ENDPOINTS,
    "MAX_POOL": MAX_POOL, "MAX_BITS": MAX_BITS, "MAX_REMOVES": MAX_REMOVES, "MAX_REPLY": MAX_REPLY,
    "MAX_STEPS": MAX_STEPS, "BODY_LIMIT": BODY_LIMIT, "DFA_SINK": DFA_SINK, "DFA_HEADER": DFA_HEADER, "NONE": NONE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one policy version. `element` is a struct name or an integer type."""

    name: str
    element: str
    doc: str


TABLES: tuple[Table, ...] = (
    Table("cells", "u64", "all automata, as one double array"),
    Table("masks", "u64", "what value automata yield; masks[0] is unused"),
    Table("code", "instr", "all decision programs"),
    Table("vhosts", "vhost", ""),
    Table("headers", "header_entry", "request headers; headers[0] is unused"),
    Table("response_headers", "header_entry", "response headers; [0] is unused"),
    Table("queries", "query_entry", "queries[0] is unused"),
    Table("rules", "rule", ""),
    Table("dests", "dest", ""),
    Table("clusters", "cluster", "written by BPF (cursor)"),
    Table("endpoints", "u32", "endpoint ids, filled in by the loader"),
    Table("authz", "authz", ""),
    Table("edits", "edit", ""),
    Table("parts", "part", ""),
    Table("replies", "reply", ""),
    Table("blob", "u8", "constant bytes"),
)


def fingerprint() -> str:
    """Digest of everything above: bundle, programs and agent must agree on it."""
    text = repr((STRUCTS, [(e.__name__, [(m.name, int(m)) for m in e]) for e in ENUMS], LIMITS, TABLES))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
