"""The filter of the console: text, a regular expression, or either turned around."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

_REGEX_SIGNS = frozenset("^$*+?()[]{}|\\")

HELP = (
    "text finds it anywhere; with any of ^ $ * + ? ( ) [ ] { } | \\ it is a regular expression; ! at the front inverts"
)


class Filter:
    """What a user typed behind `/` (or, as a glob, behind `:queues`). Capitals make it mind capitals.

    Raises:
        ValueError: neither text nor a regular expression nor a glob.
    """

    def __init__(self, text: str, *, glob: bool = False) -> None:
        self.text = text
        self.glob = glob
        wanted = text
        self._inverse = wanted.startswith("!")
        wanted = wanted.removeprefix("!")
        self._matches = _compile(wanted, glob=glob)

    def __bool__(self) -> bool:
        return bool(self.text.removeprefix("!"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and (self.text, self.glob) == (other.text, other.glob)

    def __hash__(self) -> int:
        return hash((self.text, self.glob))

    def matches(self, text: str) -> bool:
        """Tell whether a text passes."""
        return not self or self._matches(text) is not self._inverse


def _compile(wanted: str, *, glob: bool) -> Callable[[str], bool]:
    flags = re.NOFLAG if any(sign.isupper() for sign in wanted) else re.IGNORECASE
    if glob:
        pattern = re.compile(fnmatch.translate(wanted), flags)
        return lambda text: pattern.match(text) is not None
    if _REGEX_SIGNS & set(wanted):
        try:
            expression = re.compile(wanted, flags)
        except re.error as error:
            if error.msg.startswith("nothing to repeat"):  # *dead: a glob by another name
                return _compile(wanted, glob=True)
            raise ValueError(f"not a regular expression: {error.msg}") from error
        return lambda text: expression.search(text) is not None
    if flags is re.NOFLAG:
        return lambda text: wanted in text
    folded = wanted.casefold()
    return lambda text: folded in text.casefold()


EVERYTHING = Filter("")
