"""Parts: what a beat of the poller asks for, each for itself, so that one that does not come leaves the others good.

A part that hangs would hold all others up with every beat: it is asked for again seldomer, as long as it failed slowly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from busctl_lib.errors import ApiLoginRefused, ApiUnreachable, BusError, GuardRefused, VhostNotFound

_T = TypeVar("_T")

SHARE = 4
"""The API is left alone with what failed for this many times as long as that took."""
_OF_ALL = (ApiLoginRefused, VhostNotFound, GuardRefused)
"""Errors that are no matter of one part, unless it is about one object."""
_ASKED_TOO_OFTEN = 429
_SILENT_MAX = 2
"""So many parts without an answer, and none with one, are an API that does not answer."""


class Parts:
    """Asks for parts and remembers which did not come.

    Thread: one, if nothing else is said.
    """

    def __init__(self) -> None:
        self._failed: dict[tuple[str, Hashable], tuple[BusError, float]] = {}
        """Why, and when it may be asked for again."""
        self._asked: set[tuple[str, Hashable]] = set()
        self._given_up: set[str] = set()
        self._answered = False
        self._silent = 0
        self.lost_s = 0.0
        """How long this beat waited in vain."""

    @property
    def missing(self) -> Mapping[str, BusError]:
        """The parts of this beat that did not come, or that were not asked for since they failed, and why."""
        return {part: error for (part, of), (error, _) in self._failed.items() if (part, of) in self._asked}

    def begin(self) -> None:
        """Begin another beat."""
        self._asked.clear()
        self._given_up.clear()
        self._answered, self._silent, self.lost_s = False, 0, 0.0

    def forget(self) -> None:
        """Ask for whatever failed without waiting. Thread: any."""
        self._failed = {}

    def ask(self, part: str, question: Callable[[], _T], otherwise: _T, *, of: Hashable = None) -> _T:
        """Ask for a part.

        Args:
            part: Its name.
            question: What asks.
            otherwise: What stands in its place where it does not come.
            of: What it is about, where a part consists of many; one that does not answer ends the part for this beat.

        Raises:
            BusError: what concerns all parts, or the API does not answer at all.
        """
        key = (part, of)
        self._asked.add(key)
        _, again_at = self._failed.get(key, (None, 0.0))
        started = time.monotonic()
        if part in self._given_up or started < again_at:
            return otherwise
        try:
            found = question()
        except BusError as error:
            self._note(key, error, time.monotonic() - started)
            return otherwise
        self._failed.pop(key, None)
        self._answered = True
        return found

    def _note(self, key: tuple[str, Hashable], error: BusError, took_s: float) -> None:
        is_silent = isinstance(error, ApiUnreachable)
        self._silent += is_silent
        self._answered = self._answered or not is_silent
        in_vain = self._silent >= _SILENT_MAX and not self._answered
        of_all = isinstance(error, _OF_ALL) and key[1] is None
        if in_vain or of_all or error.facts.get("status") == _ASKED_TOO_OFTEN:
            self._failed = {}
            raise error
        if is_silent:
            self._given_up.add(key[0])
        self.lost_s += took_s
        self._failed[key] = (error, time.monotonic() + SHARE * took_s)
