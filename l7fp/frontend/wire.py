"""Which texts of a policy may reach bytes on the wire, and how patterns are spelt.

Each function judges one text and returns None, or (code, message, hint) for a finding; they fit
`schema.checked`. Rules: RFC 9110 §5 for header names and values, RFC 3986 for paths and authorities,
RE2 with at most 1,024 characters for regexes (ISTIO-2026-006).
"""

from __future__ import annotations

import ipaddress
import os
import re

import re2

from l7fp.frontend.schema import STRING, At, Type, checked

Problem = tuple[str, str, str] | None

MAX_REGEX_CHARS = 1024
MAX_BODY_BYTES = 1 << 20

_IP_LIKE = re.compile(r"[0-9][0-9.]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%.*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(:[0-9]{1,5})?")
_ENVOY_VARIABLE = re.compile(r"%[A-Z_]+(\([^%]*\))?(:[0-9]+)?%")
_FRAMING = frozenset(("connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer"))
_FRAMING |= {"transfer-encoding", "upgrade"}
HOST_NAMES = frozenset(("host", ":authority"))


def token(value: str) -> Problem:
    """Header name of a match or an edit."""
    if not value:
        return "L7FP211", "the header name is empty", "give a name"
    if not _TOKEN.fullmatch(value.removeprefix(":")):
        return "L7FP211", f"`{value}` is not a header name", "a name has letters, digits and - _ . only"
    return None


def edited_header(value: str) -> Problem:
    """Name of a header that a policy changes: framing and hop-by-hop ones belong to the proxy."""
    bad = token(value)
    if bad is not None:
        return bad
    name = value.lower()
    if name in _FRAMING:
        message = f"`{value}` says how the message is framed on this hop; a policy can't change it"
        return "L7FP404", message, "remove this edit"
    if name.startswith(":") and name not in HOST_NAMES:
        return "L7FP404", f"`{value}` can't be changed by a header edit", "use rewrite.uri or rewrite.authority"
    return None


def header_value(value: str) -> Problem:
    """Constant value of a header edit, with `%%` for a per cent sign."""
    if any((ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F for c in value):
        return "L7FP211", "the header value holds a control character", "remove line ends, NUL and other control bytes"
    if value != value.strip(" \t"):
        return "L7FP211", "the header value starts or ends with a space, which is lost on the wire", "remove it"
    if _ENVOY_VARIABLE.search(value.replace("%%", "")):
        return "L7FP404", f"`{value}` holds an Envoy variable; only constants can be set", "write a constant value"
    if "%" in value.replace("%%", ""):
        return "L7FP211", f"`{value}` holds a lone `%`", "write %% for a per cent sign"
    return None


def path(value: str) -> Problem:
    """Path of a rewrite or redirect; a query may follow."""
    if not value:
        return "L7FP204", "the path is empty", "write / for the root"
    if any(not 0x21 <= ord(c) <= 0x7E for c in value):
        return "L7FP204", f"`{value}` holds a space, control or non-ASCII character", "percent-encode it"
    if "#" in value:
        return "L7FP204", f"`{value}` holds a fragment, which is never sent", "remove everything from #"
    return None


def authority(value: str) -> Problem:
    """Host with an optional port."""
    if not _AUTHORITY.fullmatch(value) or port_of(value) == 0:
        return "L7FP204", f"`{value}` is not a host with an optional port", "write one such as api.example.com:8080"
    return None


def port_of(value: str) -> int | None:
    """Port of an authority: None without one, 0 when out of range."""
    head, colon, tail = value.rpartition(":")
    if not colon or not tail.isdigit() or (":" in head and not head.endswith("]")):
        return None
    return int(tail) if 1 <= int(tail) <= 65535 else 0


def regex(value: str) -> Problem:
    """RE2 syntax, full match."""
    if not value:
        return "L7FP210", "the regular expression is empty", "write .* for anything, or remove it"
    if len(value) > MAX_REGEX_CHARS:
        return "L7FP210", f"a regular expression of {len(value)} characters", f"at most {MAX_REGEX_CHARS}"
    try:
        compile_regex(value)
    except re2.error as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error
        hint = "for presence alone write {} instead of a pattern" if value == "*" else "RE2 syntax, without look-around"
        return "L7FP210", f"`{value}` is not a regular expression: {why}", hint
    return None


def compile_regex(value: str) -> re2._Regexp:
    """Compiled pattern; raises `re2.error`."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(value, options)


def host(value: str) -> Problem:
    """DNS name, possibly `*.suffix` or `*`, or an IP address."""
    if is_ip(value) or value == "*":
        return None
    name = value.removeprefix("*").removeprefix(".")
    if not _DNS_NAME.fullmatch(name) or len(name) > 255:
        hint = "write a DNS name; a wildcard is possible as the whole first part, such as *.example.com"
        return "L7FP204", f"`{value}` is not a host name", hint
    return None


def exact_host(value: str) -> Problem:
    """A host without wildcards."""
    if value.startswith("*"):
        return "L7FP204", f"`{value}` has a wildcard", "name one host"
    return host(value)


def label(value: str) -> Problem:
    """Name of a subset or a port: a DNS label."""
    if not _NAME.fullmatch(value.lower()):
        return "L7FP204", f"`{value}` is not a name", "lower-case letters, digits and -, at most 63"
    return None


def is_ip(value: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    if not _IP_LIKE.fullmatch(value):
        return False
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def ip(value: str) -> Problem:
    """An address literal."""
    return None if is_ip(value) else ("L7FP204", f"`{value}` is not an IP address", "write one such as 10.0.0.7")


def cidr(value: str) -> Problem:
    """An address or block."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return "L7FP204", f"`{value}` is not an address block", "write one such as 10.1.0.0/16 or 10.1.2.3"
    return None


def canonical_cidr(value: str) -> str:
    """Text form without host bits; IPv4-mapped IPv6 blocks as IPv4."""
    network = ipaddress.ip_network(value, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return f"{mapped}/{network.prefixlen - 96}"
    return str(network)


def canonical_ip(value: str) -> str:
    """Text form of an address; IPv4-mapped IPv6 as IPv4."""
    address = ipaddress.ip_address(value)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def cgroup(value: str) -> Problem:
    """Path relative to the cgroup v2 root."""
    parts = value.strip("/").split("/")
    if not value.strip("/") or any(part in ("", ".", "..") for part in parts) or os.fsencode(value).count(b"\0"):
        return "L7FP204", f"`{value}` is not a path below the cgroup root", "write one such as demo.slice/reviews-v1"
    return None


def not_empty(value: str) -> Problem:
    """Any text but the empty one."""
    return None if value else ("L7FP204", "the text is empty", "give a value, or remove the key")


NONEMPTY: Type[At[str]] = checked(STRING, not_empty)
HOST: Type[At[str]] = checked(STRING, host)
EXACT_HOST: Type[At[str]] = checked(STRING, exact_host)
REGEX: Type[At[str]] = checked(STRING, regex)
PATH: Type[At[str]] = checked(STRING, path)
AUTHORITY: Type[At[str]] = checked(STRING, authority)
HEADER_VALUE: Type[At[str]] = checked(STRING, header_value)
EDITED_HEADER: Type[At[str]] = checked(STRING, edited_header)
LABEL: Type[At[str]] = checked(STRING, label)
CIDR: Type[At[str]] = checked(STRING, cidr)
