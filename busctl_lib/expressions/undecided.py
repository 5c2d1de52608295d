"""What an expression could not decide, and why."""

from __future__ import annotations

import re
from collections import Counter

UNREAD = "unread"
"""The answer of an expression that would have read what is not known."""
_VARIES = re.compile(r"\d[\d,.]*")
"""What of a reason is another in each message: two of them are one for all that."""
_REASONS = 20
"""More of them are told as others: anybody may put any name into a message."""
_UNREAD = "the body could not be read: "


class Undecided:
    """Counts what was not decided, by reason."""

    def __init__(self, name: str) -> None:
        self.failed = 0
        """Messages on which the expression failed."""
        self.trouble: str | None = None
        """What it said about the first of them."""
        self._name = name
        self._unread: Counter[str] = Counter()
        self._said: dict[str, str] = {}

    @property
    def total(self) -> int:
        """How many there are."""
        return self.failed + self._unread.total()

    def unread(self, why: str) -> None:
        """Count a message of which something could not be read that the expression reads."""
        kind = _VARIES.sub("…", why)
        self._said[kind] = why if self._said.get(kind, why) == why else kind
        self._unread[kind] += 1

    @property
    def reasons(self) -> dict[str, int]:
        """Why, and how many for that reason."""
        most = self._unread.most_common(_REASONS)
        found = {f"{_UNREAD}{self._said[kind]}": count for kind, count in most}
        if rest := self._unread.total() - sum(found.values()):
            found[f"{_UNREAD}other reasons"] = rest
        if self.failed:
            found[f"{self._name} fails on it: {self.trouble}"] = self.failed
        return found

    def sentences(self, *, trouble: bool = True) -> list[str]:
        """The same in words; without `trouble` not what the expression said."""
        found = [in_words(why, count) for why, count in self.reasons.items()]
        return [each.removesuffix(f": {self.trouble}") for each in found] if self.trouble and not trouble else found


def in_words(reason: str, count: int) -> str:
    """Say of so many that they were undecided, and why."""
    if reason.startswith(_UNREAD):
        return f"{count:,} {'body' if count == 1 else 'bodies'} could not be read: {reason.removeprefix(_UNREAD)}"
    return f"{count:,} message{'' if count == 1 else 's'}: {reason}"
