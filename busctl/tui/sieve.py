"""Sieve: runs what may run for ever (a regular expression, jq) over rows, away from the screen and with a deadline."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from busctl.tui.filters import MATCH_REGEX, Filter
from busctl_lib.errors import ExpressionFailed, ExpressionTimedOut
from busctl_lib.expressions import Expression, GuardedExpression, Question

T = TypeVar("T")
DEBOUNCE_S = 0.12
"""A jq expression that is still being typed starts no process."""
WAITING_ROWS = 10_000
"""Of a flow that comes faster than it can be sifted, the oldest are left out."""


@dataclass(frozen=True, slots=True)
class Sifted(Generic[T]):
    """Rows that were looked at."""

    filter: Filter
    rows: Sequence[T]
    passed: Sequence[T]
    trouble: str = ""
    """Why nothing more can be sifted, or what the expression said about a row; "" when all is well."""
    stopped: bool = False
    """Whether the filter was stopped."""
    told: Sequence[str] = ()
    """What jq could not decide since the filter was chosen, and what it reads and no row has: a sentence each."""


class Sieve(Generic[T]):
    """One filter at a time over rows, in order.

    Args:
        text: What a regular expression looks at.
        ask: What jq looks at.
        tell: Called with what was sifted, on the sieve's thread.
        things: What the rows are called.

    Thread: `choose`, `put` and `close` from one thread; nothing here waits.
    """

    def __init__(
        self,
        text: Callable[[T], str],
        ask: Callable[[T], Question],
        tell: Callable[[Sifted[T]], None],
        things: str = "rows",
    ) -> None:
        self._text, self._ask, self._tell, self._things = text, ask, tell, things
        self._changed = threading.Condition()
        self._filter: Filter | None = None
        self._waiting: deque[T] = deque(maxlen=WAITING_ROWS)
        self._chosen = 0
        self._fresh = False
        """Whether what comes is to be counted anew."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def choose(self, chosen: Filter | None) -> None:
        """Sift by this from now on; what waits for an earlier one is forgotten. None: nothing to do."""
        with self._changed:
            self._filter = chosen
            self._waiting.clear()
            self._chosen += 1
            self._fresh = True
            self._changed.notify()
        if chosen is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="busctl-sieve", daemon=True)
            self._thread.start()

    def put(self, rows: Sequence[T], *, instead: bool = False) -> None:
        """Sift these, after (or instead of) those that wait."""
        with self._changed:
            if instead:
                self._waiting.clear()
                self._fresh = True
            self._waiting.extend(rows)
            self._changed.notify()

    def close(self) -> None:
        """End, as soon as the running expression allows."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    # --- the thread

    def _run(self) -> None:
        number, program = 0, ""
        guarded: GuardedExpression | None = None
        with contextlib.ExitStack() as stack:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or bool(self._waiting and self._filter))
                    if self._closed:
                        return
                    chosen = self._filter
                    news = number != self._chosen
                    if news and chosen is not None and chosen.kind == "jq":
                        number = self._chosen
                        self._changed.wait(DEBOUNCE_S)
                        continue
                    number = self._chosen
                    fresh, self._fresh = self._fresh, False
                    rows, self._waiting = list(self._waiting), deque(maxlen=WAITING_ROWS)
                assert chosen is not None
                if fresh and guarded is not None:
                    guarded.forget()
                if guarded is None or program != chosen.program:
                    stack.close()
                    program = chosen.program
                    guarded = stack.enter_context(GuardedExpression(Expression(program, chosen.kind)))
                self._tell(self._sifted(chosen, rows, guarded))

    def _sifted(self, chosen: Filter, rows: list[T], guarded: GuardedExpression) -> Sifted[T]:
        regex = chosen.program == MATCH_REGEX
        questions = [Question(chosen.question(self._text(row))) if regex else self._ask(row) for row in rows]
        try:
            verdicts = guarded.decide(questions)
        except (ExpressionTimedOut, ExpressionFailed) as error:
            return Sifted(chosen, rows, (), str(error).partition(": ")[2], stopped=True)
        passed = [
            row
            for row, verdict in zip(rows, verdicts, strict=True)
            if (chosen.shows_undecided if verdict is None else verdict is not chosen.inverse)
        ]
        told = [] if regex else [*guarded.undecided.sentences(), *guarded.notes(self._things)]
        return Sifted(chosen, rows, passed, guarded.trouble or "", told=told)
