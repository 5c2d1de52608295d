"""Which fields of its input a jq expression can read, where that is certain: it need be given no others.

Only a part of jq is understood: paths, constants, operators, `if`, and a few functions. Behind a pipe anything may
stand, because what stands there sees a part of the input only. Of all else nothing is claimed. Source: jq's manual,
"Basic filters", "Conditionals and comparisons".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import msgspec

Step = str | int | None
"""One step of a path: a name, a place in an array, or (None) each of its items."""
Path = tuple[Step, ...]
_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""
      (?P<name>\.(?:[A-Za-z_]\w*|\s*{_STRING}))
    | (?P<root>\.(?=\s*\[\s*{_STRING}\s*\]))
    | (?P<index>\[\s*(?:{_STRING}|-?\d+)?\s*\])
    | (?P<constant>{_STRING}|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\$[A-Za-z_][\w:]*)
    | (?P<word>[A-Za-z_][\w:]*)
    | (?P<operator>==|!=|<=|>=|//(?!=)|[<>+\-*/%,](?!=))
    | (?P<optional>\?(?!//))
    | (?P<bracket>[()\[\]])
    | (?P<pipe>\|(?!=))
    | (?P<next>;)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.ASCII,
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CONSTANTS = frozenset({"true", "false", "null", "not", "empty", "now"})
_JOINTS = frozenset({"and", "or", "try"})


class Reading(msgspec.Struct, frozen=True):
    """What an expression reads of an object that it is given."""

    text: str
    fields: frozenset[str]
    """The fields that it need be given: it reads them, or asks whether they are there."""
    places: tuple[tuple[int, int, str], ...]
    """Where in the text it reads the value of which of them."""
    paths: tuple[Path, ...]
    """What it reads, step by step."""

    def without(self, hidden: Collection[str]) -> str:
        """The expression that ends at once where it would read the value of one of these fields.

        jq cannot catch the end of a program, neither by `?` nor by `//` or `try`.
        """
        parts: list[str] = []
        done = 0
        for start, end, field in self.places:
            if field in hidden:
                parts += [self.text[done:start], "(halt)"]
                done = end
        return "".join([*parts, self.text[done:]])


def fields_read(expression: str) -> frozenset[str] | None:
    """The top-level fields of its input that the expression need be given; None where it may read any."""
    reading = reading_of(expression)
    return reading.fields if reading is not None else None


def reading_of(expression: str) -> Reading | None:
    """What the expression reads of its input; None where that is not certain."""
    if "\\(" in expression:  # an expression within a string
        return None
    try:
        return _Reader(expression).read()
    except (_Uncertain, RecursionError):
        return None


def shown(path: Path) -> str:
    """A path as jq writes it."""
    parts = ["" if path and isinstance(path[0], str) and _IDENTIFIER.fullmatch(path[0]) else "."]
    for step in path:
        if isinstance(step, str) and _IDENTIFIER.fullmatch(step):
            parts.append(f".{step}")
        else:
            parts.append("[]" if step is None else f"[{msgspec.json.encode(step).decode()}]")
    return "".join(parts)


def has_path(value: object, path: Path) -> bool:
    """Whether there is something at a path: also a null."""
    if not path:
        return True
    step, rest = path[0], path[1:]
    if step is None:
        items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        return any(has_path(item, rest) for item in items)
    if isinstance(step, str):
        return isinstance(value, dict) and step in value and has_path(value[step], rest)
    return isinstance(value, list) and -len(value) <= step < len(value) and has_path(value[step], rest)


class _Uncertain(Exception):
    """The expression does something that is not understood here."""


class _Value(NamedTuple):
    """What a part of an expression gives."""

    path: Path | None = None
    """The path in the input whose value it is; () the input itself."""
    may_be_input: bool = False


_WHOLE: Path = ()


class _Reader:
    """Reads an expression once. What a part of it looks at is a path in the input, or (None) something else."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [(match.lastgroup or "", match[0], match) for match in _TOKEN.finditer(text)]
        self._at = 0
        self._fields: set[str] = set()
        self._places: list[tuple[int, int, str]] = []
        self._paths: set[Path] = set()

    def read(self) -> Reading:
        self._pipe(_WHOLE, ())
        if self._at < len(self._tokens):
            raise _Uncertain
        paths = tuple(path for path in self._paths if not any(_begins(path, other) for other in self._paths))
        return Reading(self._text, frozenset(self._fields), tuple(self._places), paths)

    # --- tokens

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at][:2] if self._at < len(self._tokens) else ("end", "")

    def _take(self, text: str | None = None) -> re.Match[str]:
        if self._at >= len(self._tokens) or (text is not None and self._tokens[self._at][1] != text):
            raise _Uncertain
        self._at += 1
        return self._tokens[self._at - 1][2]

    # --- parts

    def _pipe(self, sees: Path | None, stops: Collection[str]) -> _Value:
        """Read up to one of the stops, which is left: parts behind pipes, each looking at what the last one gives."""
        base = sees
        while True:
            value = self._part(sees, stops)
            kind, _ = self._peek()
            if kind == "pipe":
                if value.may_be_input and value.path is None and sees == _WHOLE:
                    raise _Uncertain
                sees = value.path
            elif kind == "next" and ";" not in stops:
                sees = base
            else:
                return value
            self._take()

    def _part(self, sees: Path | None, stops: Collection[str]) -> _Value:
        """Read up to a pipe or a stop: terms and operators between them."""
        values: list[_Value] = []
        joined = False
        while True:
            kind, text = self._peek()
            if kind in ("end", "pipe", "next") or text in stops:
                break
            if kind == "operator" or text in _JOINTS:
                self._take()
                joined = True
            else:
                values.append(self._term(sees))
        if len(values) == 1 and not joined:
            return values[0]
        return _Value(None, any(value.may_be_input for value in values))

    def _term(self, sees: Path | None) -> _Value:
        kind, text = self._peek()
        if kind in ("name", "root"):
            value = self._path(sees)
        elif text in ("(", "["):
            self._take()
            inner = self._pipe(sees, (")" if text == "(" else "]",))
            self._take(")" if text == "(" else "]")
            value = inner if text == "(" else _Value(None, inner.may_be_input)
        elif kind in ("constant", "index"):  # an index behind nothing is an array
            self._take()
            value = _Value()
        elif kind == "word":
            value = self._word(sees)
        else:
            value = self._else(sees)
        return self._behind(value, sees)

    def _else(self, sees: Path | None) -> _Value:
        """What is not understood: it must not see the input."""
        _, text = self._peek()
        if sees == _WHOLE or text in (")", "]", "#"):
            raise _Uncertain
        self._take()
        return _Value(sees) if text == "." else _Value()

    def _path(self, sees: Path | None) -> _Value:
        start, match = self._tokens[self._at][2].start(), self._take()
        step = self._step(match if match[0] != "." else self._take())
        end = self._tokens[self._at - 1][2].end()
        if sees == _WHOLE:
            assert isinstance(step, str)
            self._fields.add(step)
            self._places.append((start, end, step))
        return _Value(None if sees is None else (*sees, step))

    def _behind(self, value: _Value, sees: Path | None) -> _Value:
        """Read the steps behind a term."""
        path, may_be_input = value
        steps = 0
        while True:
            kind, text = self._peek()
            if kind == "optional":
                self._take()
            elif kind in ("name", "index"):
                steps += 1
                step = self._step(self._take())
                path = None if path is None else (*path, step)
            elif text == "[":
                steps += 1
                self._take()
                self._pipe(sees, ("]",))
                self._take("]")
                path = None
            else:
                break
        if steps and may_be_input and sees == _WHOLE:
            raise _Uncertain  # `select(.a).b` looks at the input once more
        if path:
            self._paths.add(path)
        return _Value(path, may_be_input and not steps)

    @staticmethod
    def _step(match: re.Match[str]) -> Step:
        is_name = match[0][0] == "."
        inside = (match[0][1:] if is_name else match[0][1:-1]).strip()
        if inside[:1] == '"':
            return _text_of(inside)
        if is_name:
            return inside
        return int(inside) if inside else None

    # --- words

    def _word(self, sees: Path | None) -> _Value:
        word = self._take()[0]
        if word == "if":
            return self._if(sees)
        if self._peek()[1] == "(":
            return self._call(word, sees)
        if sees == _WHOLE and word not in _CONSTANTS:
            raise _Uncertain
        return _Value()

    def _if(self, sees: Path | None) -> _Value:
        stops = ("then", "elif", "else", "end")
        may_be_input = False
        word = "elif"
        while word == "elif":
            self._pipe(sees, stops)
            self._take("then")
            may_be_input |= self._pipe(sees, stops).may_be_input
            word = self._take()[0]
        if word == "else":
            may_be_input |= self._pipe(sees, stops).may_be_input
            self._take("end")
        elif word != "end":
            raise _Uncertain
        else:
            may_be_input = True  # of what is not so it gives the input
        return _Value(None, may_be_input)

    def _call(self, function: str, sees: Path | None) -> _Value:
        self._take("(")
        value = _Value()
        if function == "has" and sees == _WHOLE:
            self._fields.add(_text_of(self._take()[0]))
        elif function == "select":
            self._pipe(sees, (")",))
            value = _Value(sees, may_be_input=True)
        elif function in ("any", "all") and self._has_next():
            generated = self._pipe(sees, (";",))
            self._take(";")
            if generated.may_be_input and generated.path is None and sees == _WHOLE:
                raise _Uncertain
            self._pipe(generated.path, (")",))
        elif function in ("first", "isempty") and not self._has_next():
            inner = self._pipe(sees, (")",))
            value = inner if function == "first" else value
        elif sees == _WHOLE:
            raise _Uncertain
        elif function in ("any", "all", "map") and sees is not None:
            self._pipe((*sees, None), (")",))
        else:
            self._pipe(None, (")",))
        self._take(")")
        return value

    def _has_next(self) -> bool:
        """Whether the call has another argument."""
        depth = 0
        for _, text, _ in self._tokens[self._at :]:
            if text == ";" and not depth:
                return True
            depth += {"(": 1, ")": -1}.get(text, 0)
            if depth < 0:
                break
        return False


def _text_of(literal: str) -> str:
    try:
        return msgspec.json.decode(literal, type=str)
    except msgspec.MsgspecError:
        raise _Uncertain from None


def _begins(path: Path, other: Path) -> bool:
    return len(path) < len(other) and other[: len(path)] == path
