"""An expression that is asked about flows of messages, in a process of its own."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import msgspec

from busctl_lib.errors import ExpressionTimedOut
from busctl_lib.expressions.compiled import Expression
from busctl_lib.expressions.undecided import UNREAD, Undecided
from busctl_lib.jq_fields import reading_of, shown
from busctl_lib.questions import Question

DEADLINE_S = 2.0
"""How much processor time one batch may take."""
BATCH_MESSAGES = 256
"""How many values go to the child process at a time."""
BATCH_BYTES = 2**20
"""Or so many bytes of them."""
_PATIENCE_POLLS = 60
_POLL_MS = 1000
_ANSWER = msgspec.json.Decoder(tuple[list[Any], str | None, int, list[int]])
T = TypeVar("T")


class GuardedExpression:
    """An expression that runs in a process of its own, for flows of messages; a context manager.

    Args:
        expression: What to run.
        deadline_s: How much processor time a batch of at most `BATCH_MESSAGES` may take.

    Thread: one at a time.
    """

    def __init__(self, expression: Expression, *, deadline_s: float = DEADLINE_S) -> None:
        self.expression = expression
        self._reading = reading_of(expression.text)
        self.reads = self._reading.fields if self._reading is not None else None
        """The fields that it need be given, by `question(..., only=...)`; None: all of them."""
        self.undecided = Undecided(expression.name)
        """What `decide` could not decide so far."""
        self._paths = self._reading.paths if self._reading is not None else ()
        self._missing: Sequence[int] = range(len(self._paths))
        """Which paths were in nothing that `decide` was asked about."""
        self._known: Counter[str] = Counter()
        """In how many of these each field was known."""
        self._spared: dict[frozenset[str], str | None] = {}
        self.trouble: str | None = None
        """What the expression said about the first message it failed on."""
        self.failed = 0
        """How many messages it failed on."""
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process; it is ready when it is first asked."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "busctl_lib.expressions.answers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us to handle
            )
            told = (self.expression.text, self.expression.name, self._deadline_s, self._paths)
            self._tell([msgspec.json.encode(told)])

    def matches(self, documents: Sequence[bytes]) -> list[bool]:
        """Tell of each JSON text, one line each, whether it matches; a failure is no match and counted.

        Raises:
            ExpressionTimedOut: it ran too long, or needed too much memory; nothing more can be asked.
        """
        return [result is True for result in self._ask("matches", documents)]

    def decide(self, questions: Sequence[Question]) -> list[bool | None]:
        """Tell of each whether it matches.

        None: it cannot tell, because it fails, or reads what is not known there; `undecided` counts these.

        Raises:
            ExpressionTimedOut: as `matches`.
        """
        answers: list[bool | None] = []
        for batch in _batches(questions, lambda question: len(question.document)):
            spared = {
                place: text
                for place, question in enumerate(batch)
                if question.hidden and (text := self._without(question.hidden)) is not None
            }
            found = self._exchange("decide", [question.document for question in batch], spared)
            for place in spared:
                if found[place] == UNREAD:
                    self.undecided.unread(batch[place].why)
                    found[place] = None
            answers += found
            self._count_known(batch)
        return answers

    def forget(self) -> None:
        """Begin to count anew."""
        self.undecided = Undecided(self.expression.name)
        self.failed, self.trouble = 0, None
        self._known.clear()

    def _without(self, hidden: frozenset[str]) -> str | None:
        """The expression that ends where it would read what is hidden; None where it reads nothing of it."""
        if hidden not in self._spared:
            reading = self._reading
            text = "halt" if reading is None else reading.without(hidden)
            self._spared[hidden] = None if reading is not None and text == reading.text else text
        return self._spared[hidden]

    def _count_known(self, batch: Sequence[Question]) -> None:
        if self._missing:
            for field in {str(self._paths[place][0]) for place in self._missing}:
                self._known[field] += sum(field not in question.hidden for question in batch)

    def notes(self, things: str = "messages") -> list[str]:
        """What it reads, and none of the things has that `decide` was asked about: a sentence each."""
        found = []
        for place in self._missing:
            many = self._known[str(self._paths[place][0])]
            if many:
                alone = f"the only {things.removesuffix('s')} does not have it"
                none = f"none of {many:,} {things} has it" if many > 1 else alone
                found.append(f"`{shown(self._paths[place])}`: {none}")
        return found

    def results(self, documents: Sequence[bytes]) -> list[list[msgspec.Raw]]:
        """Give all results of each JSON text, as JSON; none where it failed, which is counted.

        Raises:
            ExpressionTimedOut: as `matches`.
        """
        return [[msgspec.Raw(one) for one in result or ()] for result in self._ask("results", documents)]

    def close(self) -> None:
        """End the process. Never raises, never waits long."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        child.wait()

    def _ask(self, kind: str, documents: Sequence[bytes]) -> list[Any]:
        return [answer for batch in _batches(documents, len) for answer in self._exchange(kind, batch, {})]

    def _exchange(self, kind: str, batch: Sequence[bytes], spared: dict[int, str]) -> list[Any]:
        self.start()
        self._tell([msgspec.json.encode((kind, len(batch), spared)), *batch])
        found, trouble, failed, self._missing = _ANSWER.decode(self._hear())
        self.failed += failed
        self.trouble = self.trouble or trouble
        self.undecided.failed, self.undecided.trouble = self.failed, self.trouble
        return found

    def _tell(self, lines: list[bytes]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"\n".join(lines) + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            self._give_up()

    def _hear(self) -> bytes:
        """Read one line; the child's own clock ends it, ours is for a machine that stands still."""
        assert self._child is not None
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        quiet = 0
        parts = [self._unread]
        while not parts[-1].endswith(b"\n"):
            if not poll.poll(_POLL_MS):
                quiet += 1
                if quiet >= _PATIENCE_POLLS:
                    self._give_up()
                continue
            part = self._child.stdout.read1(2**20)  # type: ignore[attr-defined]
            if not part:
                self._give_up()
            parts.append(part)
        return b"".join(parts)

    def _give_up(self) -> NoReturn:
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        by_clock = self._child.poll() in (None, -signal.SIGPROF)
        self.close()
        why = f"took more than {self._deadline_s:g} s of computing" if by_clock else "needed too much memory"
        raise ExpressionTimedOut(
            f"{self.expression.name}: the expression {why} for a few messages: stopped",
            hint="make it simpler; no message was taken for it",
            expression=self.expression.text,
        )


def _batches(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for item in items:
        length = size_of(item)
        if batch and (len(batch) >= BATCH_MESSAGES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch
