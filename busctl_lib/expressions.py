"""Expressions: jq, the one language to filter, project and edit documents.

::

    big = Expression(".body.quantity > 100")          # compiled at once; a mistake raises ExpressionInvalid
    big.matches(document)                             # an error of the expression on this value is no match
    with GuardedExpression(big) as guarded:           # for live flows: another process, with a deadline
        guarded.matches([to_json(delivery), ...])

jq holds the interpreter while it runs, and an expression may run for ever (`last(repeat(1))`): what a user typed runs
on a flow of messages in a process of its own, which the kernel ends when it has used up its time.

jq's numbers are doubles: integers above 2**53 lose digits, and 150.0 becomes 150.
"""

from __future__ import annotations

import contextlib
import re
import resource
import select
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import jq
import msgspec

from busctl_lib.errors import ExpressionFailed, ExpressionInvalid, ExpressionTimedOut
from busctl_lib.jq_fields import fields_read

DEADLINE_S = 2.0
"""How much processor time one batch may take."""
BATCH_MESSAGES = 256
"""How many values go to the child process at a time."""
BATCH_BYTES = 2**20
"""Or so many bytes of them."""
_MEMORY_BYTES = 2 * 2**30
_PATIENCE_POLLS = 60
_POLL_MS = 1000
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
        self._program = _compile(text, name)

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
            yield from self._program.input_value(value)
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


class GuardedExpression:
    """An expression that runs in a process of its own, for flows of messages; a context manager.

    Args:
        expression: What to run.
        deadline_s: How much processor time a batch of at most `BATCH_MESSAGES` may take.

    Thread: one at a time.
    """

    def __init__(self, expression: Expression, *, deadline_s: float = DEADLINE_S) -> None:
        self.expression = expression
        self.reads = fields_read(expression.text)
        """The fields that it need be given, by `to_json(..., only=...)`; None: all of them."""
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
                [sys.executable, "-m", "busctl_lib.expressions"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us to handle
            )
            self._tell([msgspec.json.encode((self.expression.text, self.expression.name, self._deadline_s))])

    def matches(self, documents: Sequence[bytes]) -> list[bool]:
        """Tell of each JSON text, one line each, whether it matches; a failure is no match and counted.

        Raises:
            ExpressionTimedOut: it ran too long, or needed too much memory; nothing more can be asked.
        """
        return [result is True for result in self._ask(b"matches", documents)]

    def results(self, documents: Sequence[bytes]) -> list[list[msgspec.Raw]]:
        """Give all results of each JSON text, as JSON; none where it failed, which is counted.

        Raises:
            ExpressionTimedOut: as `matches`.
        """
        return [[msgspec.Raw(one) for one in result or ()] for result in self._ask(b"results", documents)]

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

    def _ask(self, kind: bytes, documents: Sequence[bytes]) -> list[Any]:
        answers: list[Any] = []
        for batch in _batches(documents):
            self.start()
            self._tell([b"%b %d" % (kind, len(batch)), *batch])
            found, trouble, failed = msgspec.json.decode(self._hear())
            answers += found
            self.failed += failed
            self.trouble = self.trouble or trouble
        return answers

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


def _batches(documents: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for document in documents:
        if batch and (len(batch) >= BATCH_MESSAGES or size + len(document) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document)
    if batch:
        yield batch


# --- the other process


class _Answerer:
    """Answers batches; the kernel ends the process when one takes too long, whatever jq is doing."""

    def __init__(self, text: str, name: str, deadline_s: float) -> None:
        self._program = Expression(text, name)._program
        self._deadline_s = deadline_s
        self._trouble: str | None = None
        self._failed = 0

    def answer(self, kind: str, batch: list[bytes]) -> bytes:
        """Give results, what was said about the first failure and how many failed, as JSON."""
        one = self._matches if kind == "matches" else self._results
        self._trouble, self._failed = None, 0
        signal.setitimer(signal.ITIMER_PROF, self._deadline_s)
        found = [self._guarded(one, document) for document in batch]
        signal.setitimer(signal.ITIMER_PROF, 0)
        return msgspec.json.encode((found, self._trouble, self._failed))

    def _guarded(self, one: Any, document: bytes) -> Any:
        try:
            return one(document.decode())
        except (ValueError, RecursionError) as error:
            self._failed += 1
            self._trouble = self._trouble or " ".join(str(error).split())[:300] or type(error).__name__
            return None

    def _matches(self, document: str) -> bool:
        results = self._program.input_text(document)
        return any(result is not None and result is not False for result in results)

    def _results(self, document: str) -> list[str]:
        return [msgspec.json.encode(result).decode() for result in self._program.input_text(document)]


def _answer_all(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answerer = _Answerer(*msgspec.json.decode(stdin.readline()))
    while head := stdin.readline():
        kind, count = head.decode().split()
        batch = [stdin.readline() for _ in range(int(count))]
        stdout.write(answerer.answer(kind, batch) + b"\n")
        stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _answer_all(sys.stdin.buffer, sys.stdout.buffer)
