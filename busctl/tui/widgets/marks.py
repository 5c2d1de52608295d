"""Marks: the rows that a verb for many is meant for."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


class Marks:
    """Keys of marked rows, and where the last mark was set."""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()
        self._last: Hashable = None

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def toggle(self, key: Hashable) -> None:
        """Mark a row, or take its mark away."""
        self._keys ^= {key}
        self._last = key

    def mark_range(self, keys: Sequence[Hashable], here: int) -> None:
        """Mark all rows from the one that was marked last to this one."""
        start = keys.index(self._last) if self._last in keys else here
        first, last = sorted((start, here))
        self._keys.update(keys[first : last + 1])
        self._last = keys[here]

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Forget the marks of rows that are gone: a verb must not reach what cannot be seen."""
        if self._keys:
            self._keys &= set(keys)

    def clear(self) -> None:
        """Take all marks away."""
        self._keys.clear()
        self._last = None
