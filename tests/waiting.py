"""Waiting for a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = 30, *, every_s: float = 0.05, what: str = "") -> T:
    """Return the condition's first true value; AssertionError (with `what` and the last value) at the deadline.

    An AssertionError inside the condition counts as "not yet" and is raised as it is at the deadline.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        failure: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            last, failure = error, error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            if failure is not None:
                raise failure
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {timeout:g} s: {name} (last value: {last!r})")
        time.sleep(every_s)
