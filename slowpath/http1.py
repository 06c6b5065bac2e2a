"""HTTP/1.1 message heads: bytes in, validated values out. No sockets.

One strict parser of our own rather than llhttp with a pre-check in front: the pre-check
that keeps llhttp's leniency out has to be a full grammar of the head anyway, and once
that grammar is one possessive regular expression (linear, run in C) there is nothing
left for a second parser to do. It also keeps the two hazards of two parsers away: that
they disagree, and that a version of the other one changes its mind.

What is accepted is RFC 9112 without its tolerances: CRLF only, no folding, no white space
around field names, one framing header at most, `Transfer-Encoding` exactly `chunked`,
one valid `Host`. A request without version (`GET /x` and an empty line) is taken as
HTTP/1.0 without fields; real HTTP/0.9, which has no empty line, never completes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELDS = rf"((?:{_TOKEN}++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+)"
_REQUEST = re.compile(rf"([A-Z-]++) ([\x21-\x7e]++) HTTP/(\d)\.(\d)\r\n{_FIELDS}\r\n")
_VERSIONLESS = re.compile(r"(GET) (/[\x21-\x7e]*+)\r\n\r\n")
_RESPONSE = re.compile(rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*+))?+\r\n{_FIELDS}\r\n")
_FIELD = re.compile(r"([^:]++):[ \t]*+([^\r]*+)\r\n")
_HOST = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+;=]++|\[[0-9A-Fa-f:.]++\])(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp]://([^/?#]*+)(.*)")
_TOKENS = re.compile(rf"{_TOKEN}++")
# ASCII, or else the Kelvin sign would be a `k`.
_CHUNKED = re.compile(r"(?:\A|(?<=\n))transfer-encoding: *+chunked\r\n", re.ASCII | re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9]{1,19}", re.ASCII)

# The IANA registry, the UPnP ones, and PURGE and SOURCE, which caches and streamers use.
_METHODS = """
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK M-SEARCH MERGE
    MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY OPTIONS ORDERPATCH PATCH POST PROPFIND
    PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNCHECKOUT UNLINK UNLOCK
    UNSUBSCRIBE UPDATE UPDATEREDIRECTREF VERSION-CONTROL
"""
METHODS = frozenset(_METHODS.split())
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
"""Methods that may be sent again after a connection died without an answer (RFC 9110 §9.2.2)."""

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)
_NEVER_NOMINATED = frozenset(
    {"host", "content-length", "transfer-encoding", "expect", "authorization", "cookie", "x-forwarded-for"}
)
_SPECIAL_OPTIONS = frozenset({"close", "keep-alive", "upgrade"})
_SPECIAL = _HOP_BY_HOP | {"host", "content-length", "expect"}


class Rejected(Exception):
    """A message that is not acceptable. `status` is the answer, `code` its stable name."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Framing(Enum):
    """How long a message body is."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    EOF = 3  # responses only


Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)  # never changed, but freezing doubles the cost of making one
class RequestHead:
    """A request. `headers` are those to forward: lower case, in order, without Host, hop-by-hop fields and
    what Connection nominates, framing and Expect. `seen` are those that policies see: all but Host and
    what Connection nominates.

    `target` is origin-form or `*`. `size` is the head's length in bytes. `upgrade` is the protocol
    that the client wants to switch to, lower case, or empty.
    """

    method: str
    target: str
    authority: str
    headers: Headers
    seen: Headers
    framing: Framing
    length: int
    http10: bool
    keep_alive: bool
    expect_continue: bool
    upgrade: str
    size: int


@dataclass(slots=True, eq=False)
class ResponseHead:
    """A response; `headers` as those of a request. `framing` does not know of the request's method:
    see `body_of`. `length` is -1 without Content-Length."""

    status: int
    reason: str
    headers: Headers
    framing: Framing
    length: int
    keep_alive: bool
    upgrade: str

    def body_of(self, *, is_head: bool) -> Framing:
        """How the body of this response to a HEAD or another request is delimited (RFC 9112 §6.3)."""
        if is_head or self.status < 200 or self.status in (204, 304):
            return Framing.NONE
        return self.framing


def _authority(value: str) -> str:
    found = _HOST.fullmatch(value)
    if found is None or (found[1] is not None and int(found[1]) > 65535):
        raise Rejected(400, "invalid_host")
    return value


def _length(values: list[str]) -> int:
    """Leading zeros are read as what they are; everything that two parsers could read differently is not."""
    if len(values) != 1 or not _DECIMAL.fullmatch(values[0]) or (length := int(values[0])) > 0x7FFF_FFFF_FFFF_FFFF:
        raise Rejected(400, "invalid_content_length")
    return length


def _fields(text: str, limit: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, list[str]]]:
    """Field lines to forward, field lines to look at (the same and the special ones but Host), and values
    of the special ones, with their trailing white space, by name."""
    pairs: list[tuple[str, str]] = []
    special: dict[str, list[str]] = {}
    found = _FIELD.findall(text)
    if len(found) > limit:
        raise Rejected(431, "too_many_headers")
    for name, value in found:
        name = name.lower()
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
        else:
            pairs.append((name, value.rstrip(" \t")))
    if len(special) == ("host" in special):
        return pairs, pairs, special
    lower = ((name.lower(), value) for name, value in found)
    return pairs, [(name, value.rstrip(" \t")) for name, value in lower if name != "host"], special


def _without(pairs: list[tuple[str, str]], names: frozenset[str]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] not in names]


def _connection(special: dict[str, list[str]]) -> frozenset[str]:
    values = special.get("connection")
    if values is None:
        return frozenset()
    tokens = [t for v in values for part in v.split(",") if (t := part.strip(" \t"))]
    if any(not _TOKENS.fullmatch(t) for t in tokens):
        raise Rejected(400, "invalid_connection_header")
    return frozenset(t.lower() for t in tokens)


def _chunked(values: list[str], fields: str) -> None:
    # A tab before the token or white space after it is an obfuscation that some server reads differently.
    if len(values) != 1 or not _CHUNKED.search(fields):
        raise Rejected(400, "invalid_transfer_encoding")


def _target(method: str, target: str) -> tuple[str, str | None]:
    """Origin-form target and the authority of an absolute one."""
    if "#" in target:
        raise Rejected(400, "fragment_in_target")
    if target[0] == "/":
        return target, None
    if target == "*" and method == "OPTIONS":
        return target, None
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise Rejected(400, "invalid_target")
    # Userinfo names nobody here: it is neither matched nor forwarded (RFC 9110 §4.2.4).
    authority = _authority(found[1].rpartition("@")[2])
    rest = found[2]
    if not rest:
        return ("*" if method == "OPTIONS" else "/"), authority
    return (rest if rest[0] == "/" else "/" + rest), authority


def check_partial(data: bytes, max_head: int) -> None:
    """Judges a head of which the end has not come. Raises `Rejected` where no continuation could mend it."""
    if len(data) > max_head:
        raise (
            Rejected(431, "request_headers_too_large") if b"\r\n" in data[:max_head] else Rejected(414, "uri_too_long")
        )
    if data.count(b"\n") != data.count(b"\r\n"):
        raise Rejected(400, "bare_line_feed")


def parse_request(head: bytes, *, max_target: int = 8192, max_headers: int = 256) -> RequestHead:
    """The request whose head, including the empty line, is `head`. Raises `Rejected`."""
    text = head.decode("utf-8", "surrogateescape")
    found = _REQUEST.fullmatch(text)
    if found is None:
        found = _VERSIONLESS.fullmatch(text)
        if found is None:
            raise Rejected(400, "malformed_request")
        method, target, major, minor, fields = "GET", found[2], "1", "0", ""
    else:
        method, target, major, minor, fields = found.groups()
    if len(target) > max_target:
        raise Rejected(414, "uri_too_long")
    if method not in METHODS:
        raise Rejected(400 if method == "PRI" else 501, "unknown_method")
    if major != "1" or minor not in "01":
        raise Rejected(505, "unsupported_version")
    if method == "CONNECT":
        raise Rejected(501, "connect_not_supported")
    http10 = minor == "0"
    pairs, seen, special = _fields(fields, max_headers)

    hosts = special.get("host")
    if hosts is None:
        if not http10:
            raise Rejected(400, "missing_host")
        host = ""
    elif len(hosts) > 1:
        raise Rejected(400, "duplicate_host")
    else:
        host = _authority(hosts[0].rstrip(" \t"))
    target, absolute = _target(method, target)

    framing, length = Framing.NONE, 0
    if "transfer-encoding" in special:
        if "content-length" in special or http10:
            raise Rejected(400, "ambiguous_framing")
        _chunked(special["transfer-encoding"], fields)
        framing = Framing.CHUNKED
    elif "content-length" in special:
        length = _length(special["content-length"])
        framing = Framing.LENGTH

    nominated = _connection(special)
    if nominated:
        if nominated & _NEVER_NOMINATED:
            raise Rejected(400, "invalid_connection_header")
        if not nominated <= _SPECIAL_OPTIONS:
            pairs = _without(pairs, nominated)
            seen = _without(seen, nominated - _SPECIAL)
    upgrade = ""
    if "upgrade" in nominated and not http10 and framing is Framing.NONE and len(special.get("upgrade", ())) == 1:
        upgrade = special["upgrade"][0].strip(" \t").lower()
    expect = special.get("expect")
    if expect is not None and (len(expect) > 1 or expect[0].rstrip(" \t").lower() != "100-continue"):
        raise Rejected(417, "unknown_expectation")
    headers = tuple(pairs)
    return RequestHead(
        method,
        target,
        host if absolute is None else absolute,
        headers,
        headers if seen is pairs else tuple(seen),
        framing,
        length,
        http10,
        "close" not in nominated and (not http10 or "keep-alive" in nominated),
        expect is not None and not http10 and (framing is Framing.CHUNKED or length > 0),
        upgrade,
        len(head),
    )


def parse_response(head: bytes, *, max_headers: int = 256) -> ResponseHead:
    """The response whose head, including the empty line, is `head`. Raises `Rejected` (502)."""
    text = head.decode("utf-8", "surrogateescape")
    found = _RESPONSE.fullmatch(text)
    if found is None:
        raise Rejected(502, "malformed_response")
    minor, status, reason, fields = found.groups()
    http10 = minor == "0"
    try:
        pairs, _, special = _fields(fields, max_headers)
        nominated = _connection(special)
        framing, length = Framing.EOF, -1
        if "transfer-encoding" in special:
            if "content-length" in special or http10:
                raise Rejected(502, "ambiguous_framing")
            _chunked(special["transfer-encoding"], fields)
            framing = Framing.CHUNKED
        elif "content-length" in special:
            length = _length(special["content-length"])
            framing = Framing.LENGTH
    except Rejected as error:
        raise Rejected(502, error.code) from None
    if not nominated <= _SPECIAL_OPTIONS:
        pairs = _without(pairs, nominated)
    return ResponseHead(
        int(status),
        reason or "",
        tuple(pairs),
        framing,
        length,
        "close" not in nominated and (not http10 or "keep-alive" in nominated),
        special["upgrade"][0].strip(" \t").lower() if "upgrade" in special else "",
    )
