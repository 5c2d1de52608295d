"""An expression, compiled in this process."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import jq

from busctl_lib.errors import ExpressionFailed, ExpressionInvalid

_PLACE = re.compile(r"jq: error: (?P<what>.*) at <top-level>, line (?P<line>\d+), column (?P<column>\d+):")


class Expression:
    """A jq expression, compiled.

    Args:
        text: The expression.
        name: What the reader knows it by, for errors: the flag it came from.

    Raises:
        ExpressionInvalid: jq does not understand it (facts `expression`, `line`, `column`, `picture`).

    Thread: any, but the interpreter stands still while it runs; see `GuardedExpression`.
    """

    def __init__(self, text: str, name: str = "--where") -> None:
        self.text = text
        self.name = name
        self.trouble: str | None = None
        """What the expression said about the first value it failed on, in `matches`."""
        self.program = _compile(text, name)

    def __repr__(self) -> str:
        return f"Expression({self.text!r}, {self.name!r})"

    def matches(self, value: Any) -> bool:
        """Tell whether any result for a JSON value is true (not false, not null); a failure is no match."""
        try:
            return any(result is not None and result is not False for result in self._run(value))
        except ExpressionFailed as error:
            self.trouble = self.trouble or str(error)
            return False

    def first(self, value: Any) -> Any:
        """Give the first result for a JSON value; None when there is none. Raises ExpressionFailed."""
        return next(self._run(value), None)

    def all(self, value: Any) -> list[Any]:
        """Give all results for a JSON value. Raises ExpressionFailed."""
        return list(self._run(value))

    def _run(self, value: Any) -> Iterator[Any]:
        try:
            yield from self.program.input_value(value)
        except (ValueError, TypeError, RecursionError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ExpressionFailed(f"{self.name}: {text:.300}", expression=self.text) from None


def _compile(text: str, name: str) -> Any:
    if "\0" in text:  # jq would take what stands before it for the whole
        raise _invalid(text, name, "a NUL character", 1, text.index("\0") + 1)
    try:
        return jq.compile(text)
    except UnicodeEncodeError as error:
        raise _invalid(text, name, "not valid Unicode", 1, error.start + 1) from None
    except ValueError as error:
        said = str(error)
    found = _PLACE.search(said)
    if found is None:
        what = said.removeprefix("jq: error: ").partition("\n")[0]
        raise _invalid(text, name, "it is empty" if not text.strip() else what, 1, 1)
    line = int(found["line"])
    lines = text.encode().split(b"\n")
    before = lines[line - 1][: int(found["column"]) - 1] if line <= len(lines) else b""
    raise _invalid(text, name, found["what"], line, len(before.decode(errors="ignore")) + 1)  # jq counts bytes


def _invalid(text: str, name: str, what: str, line: int, column: int) -> ExpressionInvalid:
    lines = text.split("\n")
    shown = lines[line - 1] if line <= len(lines) else lines[-1]
    where = f"line {line}, column {column}" if len(lines) > 1 else f"column {column}"
    return ExpressionInvalid(
        f"{name}: {what}, at {where}",
        hint="the language is jq's: https://jqlang.org/manual/",
        expression=text,
        line=line,
        column=column,
        picture=f"    {shown}\n    {_blank(shown[: column - 1])}^",
    )


def _blank(text: str) -> str:
    """Give spaces as wide as a text."""
    text = text.replace("\t", "  ")  # as a terminal's safe text has it
    return "".join("  " if unicodedata.east_asian_width(char) in "WF" else " " for char in text)
