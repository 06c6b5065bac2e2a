"""Path normalisation as Istio's modes ask it of Envoy, applied once, before anything is matched.

What comes out is what is matched *and* what is forwarded. The steps are those of Envoy 1.40 and were
compared with it byte by byte: refuse what can't be a path, decode escaped slashes (one mode), decode
escaped unreserved characters, escape what RFC 3986 does not allow raw, turn `\\` into `/`, resolve dot
segments, merge slashes (two modes). `%00` is refused in every mode, also in NONE where Envoy would pass it.
"""

from __future__ import annotations

import re

from l7fp.ir.model import PathNormalization, StringKind, StringMatch

_SEGMENT_BYTES = r"A-Za-z0-9\-._~!$&'()*+,:@="
_PLAIN_PATH = re.compile(rf"(?:/(?!\.\.?(?:/|\Z))[{_SEGMENT_BYTES}]+)*/?")
_PLAIN_TARGET = re.compile(rf"(?:/(?!\.\.?(?:[/?]|\Z))[{_SEGMENT_BYTES}]+)*/?(?:\?[\x21\x22\x24-\x7e]*)?")
_REFUSED = re.compile(r"[^\x21\x22\x24-\x7e]")  # controls, space, #, DEL, 0x80 and above
_ESCAPED_SLASH = re.compile(r"%(2[fF]|5[cC])")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})?")
_STRAY = "\x00"  # stands for a % that begins no escape while decoding; can't occur in the input
_STRAY_BEFORE_HEX = re.compile(rf"{_STRAY}(?=[0-9A-Fa-f]{{2}})")
_ESCAPED_RAW = re.compile(r'["<>^`{|}]')
_SLASHES = re.compile(r"/{2,}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def is_plain(path: str) -> bool:
    """True when no mode changes or refuses the path (without query): what the kernel accepts.

    Plain are `/` and letters, digits and `-._~!$&'()*+,:@=`, without empty segments (one final `/` is
    fine) and without the segments `.` and `..`. The rest, such as `%`, `;`, `[` or `|`, is not.
    """
    return bool(path) and _PLAIN_PATH.fullmatch(path) is not None


def normalize(target: str, mode: PathNormalization) -> str | None:
    """The target (path and query) to match and to forward; None: answer 400. Idempotent.

    The query is kept as it is. A fragment, a byte outside 0x21..0x7e and a path that does not begin
    with `/` are refused.
    """
    if target and target[0] == "/" and _PLAIN_TARGET.fullmatch(target):
        return target
    if _REFUSED.search(target):
        return None
    path, mark, query = target.partition("?")
    if not path.startswith("/") or "%00" in path:
        return None
    if mode is not PathNormalization.NONE:
        path = _canonical(path, mode)
    return path + mark + query


def _canonical(path: str, mode: PathNormalization) -> str:
    if mode is PathNormalization.DECODE_AND_MERGE_SLASHES:
        path = _ESCAPED_SLASH.sub(lambda m: "/" if m[1] in ("2f", "2F") else "\\", path)
    path = _PERCENT.sub(_decode_unreserved, path)
    # A % that was no escape must not become one through what follows it: that would decode twice.
    path = _STRAY_BEFORE_HEX.sub("%25", path).replace(_STRAY, "%")
    path = _ESCAPED_RAW.sub(lambda m: f"%{ord(m[0]):02X}", path)
    path = _resolve_dots(path.replace("\\", "/"))
    if mode is PathNormalization.BASE or not path.strip("/"):
        return path if mode is PathNormalization.BASE else path[:2]  # Envoy makes `//` of `///`, and no less
    return _SLASHES.sub("/", path)


def _decode_unreserved(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return _STRAY
    char = chr(int(escape[1], 16))
    return char if char in _UNRESERVED else escape[0]


def _resolve_dots(path: str) -> str:
    kept: list[str] = []
    name = ""
    for segment in path[1:].split("/"):
        name = segment.partition(";")[0]  # `..;x` is a dot segment too
        if name == "..":
            del kept[-1:]
        elif name != ".":
            kept.append(segment)
    if name in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def rewrite_hazards(prefix: str, value: str, mode: PathNormalization) -> tuple[StringMatch, ...]:
    """Plain paths whose prefix rewrite is not normal: the interpreter normalises what comes out.

    An executor that only splices (`value` for `prefix`) must leave the paths that any of these matches
    to one that normalises. Empty where splicing is always right. `value` is a plain path. Example:
    `/api` to `/` makes `/../x` of `/api../x`, and in the merging modes `//x` of `/api/x`.
    """
    if mode is PathNormalization.NONE or prefix.endswith("/") or not value.endswith("/"):
        return ()
    out = [StringMatch(StringKind.EXACT, prefix + dots) for dots in (".", "..")]
    out += [StringMatch(StringKind.PREFIX, prefix + dots) for dots in ("./", "../")]
    if mode is not PathNormalization.BASE:
        out.append(StringMatch(StringKind.PREFIX, prefix + "/"))
    return tuple(out)
