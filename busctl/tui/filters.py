"""The filter of the console: text, a regular expression, jq, or one of these turned around."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["text", "glob", "regex", "jq"]

_REGEX_SIGNS = frozenset("^$*+?()[]{}|\\")

HELP = (
    ("/text", "finds it anywhere; capitals make it mind capitals"),
    ("/^a.*b$", "with any of ^ $ * + ? ( ) [ ] { } | \\ it is a regular expression"),
    ("/!text", "! at the front turns it around"),
    ("/=.ready > 9", "= at the front: jq, over what `-o json` prints of a row or a message"),
    ("/=?.body.n > 9", "=? shows also messages that jq cannot decide, since their body could not be read"),
)
MATCH_REGEX = ". as [$text, $regex, $flags] | $text | test($regex; $flags)"
"""The program that runs a regular expression: it and the text are data."""


class Filter:
    """What a user typed behind `/` (or, as a glob, behind `:queues`). Capitals make it mind capitals.

    Text and globs are matched here. A regular expression and jq may run for ever: these only say what is to be run, and
    a `Sieve` runs it in another process.

    Raises:
        ValueError: neither text nor a regular expression nor a glob nor jq.
    """

    def __init__(self, text: str, *, glob: bool = False) -> None:
        self.text = text
        self.glob = glob
        self.inverse = text.startswith("!")
        self.shows_undecided = False
        """Whether what jq cannot decide passes."""
        wanted = text.removeprefix("!")
        self.kind: Kind = "glob"
        self.program = ""
        """What a process of its own must run; "" when `matches` is enough."""
        self._flags = "" if any(sign.isupper() for sign in wanted) else "i"
        self._wanted = wanted
        self._matches: Callable[[str], bool] = lambda _: True
        if glob:
            self._be_glob()
        elif wanted.startswith("="):
            self._be_jq(wanted[1:])
        elif _REGEX_SIGNS & set(wanted):
            self._be_regex()
        else:
            self._be_text()

    def __bool__(self) -> bool:
        return bool(self._wanted.removeprefix("=").removeprefix("?") if self.kind == "jq" else self._wanted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and (self.text, self.glob) == (other.text, other.glob)

    def __hash__(self) -> int:
        return hash((self.text, self.glob))

    @property
    def guarded(self) -> bool:
        """Whether it must run in a process of its own."""
        return bool(self) and bool(self.program)

    def matches(self, text: str) -> bool:
        """Tell whether a text passes; only for a filter that is not guarded."""
        return not self or self._matches(text) is not self.inverse

    def question(self, text: str) -> bytes:
        """Put a text to `MATCH_REGEX`."""
        return msgspec.json.encode((text, self._wanted, self._flags))

    def _be_glob(self) -> None:
        self.kind = "glob"
        pattern = re.compile(fnmatch.translate(self._wanted), re.IGNORECASE if self._flags else re.NOFLAG)
        self._matches = lambda text: pattern.match(text) is not None

    def _be_text(self) -> None:
        self.kind = "text"
        if not self._flags:
            self._matches = lambda text: self._wanted in text
            return
        folded = self._wanted.casefold()
        self._matches = lambda text: folded in text.casefold()

    def _be_jq(self, expression: str) -> None:
        from busctl_lib.errors import ExpressionInvalid
        from busctl_lib.expressions import Expression

        self.kind = "jq"
        self.shows_undecided = expression.startswith("?")
        expression = expression.removeprefix("?")
        if not expression.strip():
            return
        try:
            Expression(expression, "jq")
        except ExpressionInvalid as error:
            raise ValueError(str(error)) from None
        self.program = expression

    def _be_regex(self) -> None:
        from busctl_lib.errors import ExpressionFailed
        from busctl_lib.expressions import Expression

        self.kind = "regex"
        try:
            Expression(MATCH_REGEX, "regex").first(["", self._wanted, self._flags])
        except ExpressionFailed as error:
            said = str(error).rpartition("Regex failure: ")[2]
            if said.startswith("target of repeat") and not self._wanted.startswith(
                "?"
            ):  # *dead: a glob by another name
                self._be_glob()
                return
            raise ValueError(f"not a regular expression: {said}") from None
        self.program = MATCH_REGEX


EVERYTHING = Filter("")
