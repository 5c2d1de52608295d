"""Coroutines on the I/O thread: several broker answers in a row, written as one function.

A `Pending` is an answer to come; a coroutine awaits it; whoever gets the answer resolves or fails it. No event loop of
its own: pika's callbacks drive everything. Thread: the I/O thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from busctl_lib.errors import BusError

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Pending(Generic[T]):
    """An answer to come. The first of resolve and fail counts, later ones are ignored."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Pending[T]], None]] = []

    def resolve(self, value: T) -> None:
        """Answer with a value."""
        self._settle(value, None)

    def fail(self, error: BaseException) -> None:
        """Answer with an error, raised where it is awaited."""
        self._settle(None, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def when_done(self, callback: Callable[[Pending[T]], None]) -> None:
        """Call back once there is an answer, at once if there is one."""
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def result(self) -> T:
        """The value; raises the error."""
        assert self.done
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def settle_into(self, future: Future[T]) -> None:
        """Give the answer, when it comes, to who waits on another thread and has not given up."""

        def settle(_answer: Pending[T]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if self._error is not None:
                future.set_exception(self._error)
            else:
                future.set_result(self._value)

        self.when_done(settle)

    @property
    def error(self) -> BaseException | None:
        """The error it was answered with, if so."""
        return self._error

    def __await__(self) -> Generator[Pending[T], None, T]:
        if not self.done:
            yield self
        return self.result()


def spawn(coroutine: Coroutine[Pending[Any], None, T]) -> Pending[T]:
    """Run a coroutine to its first wait and on from there; its result or error settles the returned Pending."""
    outcome: Pending[T] = Pending()

    def step(_answer: Pending[Any] | None = None) -> None:
        try:
            waiting_for = coroutine.send(None)
        except StopIteration as stop:
            outcome.resolve(stop.value)
        except Exception as error:
            if not isinstance(error, BusError):
                logger.exception("a task on the I/O thread failed")
            outcome.fail(error)
        else:
            waiting_for.when_done(step)

    step()
    return outcome
