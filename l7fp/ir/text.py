"""The notation of the textual IR, whatever it says: statements of words, strings and numbers, with blocks.

    rule "default/reviews/http[0]" @reviews.yaml:7:5-9:20 {
      match {
        path prefix "/a" | exact "/b"
      }
    }

A statement is one line; `{` at its end opens a block that `}` alone on a line closes; `@` is where the
policy's author wrote it; `#` alone begins a comment line. Strings are JSON in ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from l7fp.errors import PolicyError
from l7fp.ir.describe import quote
from l7fp.source import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word, as opposed to a string."""

    text: str


Argument = Word | str | int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its first word, the rest, where the policy says so, and the statements of its block."""

    keyword: str
    arguments: tuple[Argument, ...] = ()
    span: Span = NOWHERE
    block: tuple[Statement, ...] = ()
    line: int = field(default=0, compare=False)


_PLAIN_FILE = re.compile(r"[A-Za-z0-9_./<>\-]+")
_PLACE = r"@(?P<file>\"(?:[^\"\\]|\\.)*\"|[A-Za-z0-9_./<>\-]+):(?P<a>\d+):(?P<b>\d+)-(?P<c>\d+):(?P<d>\d+)"
_TOKEN = re.compile(
    rf"\s*(?:(?P<string>\"(?:[^\"\\]|\\.)*\")|(?P<place>{_PLACE})|(?P<number>-?\d+)(?![\w.])"
    r"|(?P<word>[A-Za-z_][\w.\-]*|\|)|(?P<open>\{\s*$))"
)


def render(statements: Iterable[Statement], indent: int = 0) -> Iterator[str]:
    """Lines of text, without their ends."""
    margin = "  " * indent
    for statement in statements:
        parts = [statement.keyword, *(_argument(a) for a in statement.arguments)]
        if statement.span != NOWHERE:
            parts.append(_place(statement.span))
        line = margin + " ".join(parts)
        if statement.block:
            yield line + " {"
            yield from render(statement.block, indent + 1)
            yield margin + "}"
        else:
            yield line


def _argument(argument: Argument) -> str:
    match argument:
        case Word():
            return argument.text
        case str():
            return quote(argument)
        case int():
            return str(argument)


def _place(span: Span) -> str:
    name = span.file if _PLAIN_FILE.fullmatch(span.file) else quote(span.file)
    return f"@{name}:{span.line}:{span.column}-{span.end_line}:{span.end_column}"


def scan(text: str) -> tuple[Statement, ...]:
    """The statements of a text. Raises `PolicyError` with the line that is wrong."""
    lines = enumerate(text.split("\n"), 1)
    return tuple(_block(lines, None))


def _block(lines: Iterator[tuple[int, str]], opened: int | None) -> Iterator[Statement]:
    for number, line in lines:
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if bare == "}":
            if opened is None:
                raise _wrong(number, "`}` closes nothing")
            return
        yield _statement(number, line, lines)
    if opened is not None:
        raise _wrong(opened, "the block is not closed")


def _statement(number: int, line: str, lines: Iterator[tuple[int, str]]) -> Statement:
    items: list[Argument] = []
    span = NOWHERE
    block: tuple[Statement, ...] = ()
    at = 0
    text = line.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise _wrong(number, f"unexpected {text[at:].strip()[:20]!r}")
        at = token.end()
        match token.lastgroup:
            case "string":
                items.append(_string(number, token["string"]))
            case "number":
                items.append(int(token["number"]))
            case "word":
                items.append(Word(token["word"]))
            case "open":
                block = tuple(_block(lines, number))
            case _:
                name = token["file"]
                file = _string(number, name) if name.startswith('"') else name
                span = Span(file, int(token["a"]), int(token["b"]), int(token["c"]), int(token["d"]))
    first = items[0] if items else None
    if not isinstance(first, Word):
        raise _wrong(number, "a statement begins with a word")
    return Statement(first.text, tuple(items[1:]), span, block, number)


def _string(number: int, text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _wrong(number, f"{text} is not a string: {error}") from error
    assert isinstance(value, str)
    return value


def _wrong(line: int, message: str) -> PolicyError:
    return PolicyError(f"textual IR, line {line}: {message}")


class Arguments:
    """The arguments of a statement, taken one by one. Every method raises `PolicyError` when the next
    argument is of another kind."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._left = list(reversed(statement.arguments))

    def wrong(self, message: str) -> PolicyError:
        """An error at this statement."""
        return _wrong(self._statement.line, f"{self._statement.keyword}: {message}")

    def string(self) -> str:
        """The next argument, a string."""
        item = self._next("a string")
        if not isinstance(item, str):
            raise self.wrong("a string is expected")
        return item

    def integer(self) -> int:
        """The next argument, a number."""
        item = self._next("a number")
        if not isinstance(item, int):
            raise self.wrong("a number is expected")
        return item

    def word(self) -> str:
        """The next argument, a bare word."""
        item = self._next("a word")
        if not isinstance(item, Word):
            raise self.wrong("a word is expected")
        return item.text

    def option(self, name: str) -> bool:
        """Take the bare word `name` if it is next."""
        if self._left and self._left[-1] == Word(name):
            self._left.pop()
            return True
        return False

    def strings(self) -> tuple[str, ...]:
        """All that is left, strings."""
        out = []
        while self._left:
            out.append(self.string())
        return tuple(out)

    def integers(self) -> tuple[int, ...]:
        """All that is left, numbers."""
        out = []
        while self._left:
            out.append(self.integer())
        return tuple(out)

    def end(self) -> None:
        """Nothing may be left."""
        if self._left:
            raise self.wrong(f"{_argument(self._left[-1])} is too much")

    def _next(self, what: str) -> Argument:
        if not self._left:
            raise self.wrong(f"{what} is missing")
        return self._left.pop()
