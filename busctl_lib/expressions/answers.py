"""The other process: answers what a guarded expression is asked, a line for a batch.

Its first line is [text, name, deadline, paths]. A batch is [kind, count, {place: text}] and so many documents, of which
those at a place are asked another text: one that ends where it would read what is not known. The answer is
[answers, what was said about the first failure, failures, the paths that were in no document so far].
"""

from __future__ import annotations

import contextlib
import functools
import resource
import signal
import sys
from typing import IO, Any

import jq
import msgspec

from busctl_lib.expressions.compiled import Expression
from busctl_lib.expressions.undecided import UNREAD
from busctl_lib.jq_fields import Path, has_path

_MEMORY_BYTES = 2 * 2**30
_END = "\0the end"
"""The last result of an expression that may end before."""
_FIRST = msgspec.json.Decoder(tuple[str, str, float, list[Path]])
_HEAD = msgspec.json.Decoder(tuple[str, int, dict[int, str]])


class Answerer:
    """Answers batches; the kernel ends the process when one takes too long, whatever jq is doing."""

    def __init__(self, text: str, name: str, deadline_s: float, paths: list[Path]) -> None:
        expression = Expression(text, name)
        self._program = expression.program
        self._halts = text if "halt" in text else None
        self._deadline_s = deadline_s
        self._sought = {number: _searched(path) for number, path in enumerate(paths)}
        self._trouble: str | None = None
        self._failed = 0

    def answer(self, kind: str, batch: list[bytes], others: dict[int, str]) -> bytes:
        """Give results, what was said about the first failure, how many failed, which paths are missing, as JSON."""
        one = {"matches": self._matches, "results": self._results, "decide": self._decide}[kind]
        if kind == "decide" and not self._sought and self._halts is None:
            one = self._matches
        self._trouble, self._failed = None, 0
        signal.setitimer(signal.ITIMER_PROF, self._deadline_s)
        if others:
            found = [self._guarded(one, line, others.get(place)) for place, line in enumerate(batch)]
        else:
            found = [self._guarded(one, line) for line in batch]
        signal.setitimer(signal.ITIMER_PROF, 0)
        return msgspec.json.encode((found, self._trouble, self._failed, list(self._sought)))

    def _guarded(self, one: Any, document: bytes, other: str | None = None) -> Any:
        try:
            return one(document.decode()) if other is None else self._ended(document.decode(), other)
        except (ValueError, RecursionError) as error:
            self._failed += 1
            self._trouble = self._trouble or " ".join(str(error).split())[:300] or type(error).__name__
            return None

    def _matches(self, document: str) -> bool:
        results = self._program.input_text(document)
        return any(result is not None and result is not False for result in results)

    def _decide(self, document: str) -> bool | str:
        if self._sought:
            self._seek(document)
        if self._halts is None:
            return self._matches(document)
        found = self._ended(document, self._halts)
        if found is UNREAD:
            raise ValueError("it halts")
        return found

    def _ended(self, document: str, text: str) -> bool | str:
        """As `_matches`; UNREAD where the program came to no end."""
        for result in _ending(text).input_text(document):
            if result == _END:
                return False
            if result is not None and result is not False:
                return True
        return UNREAD

    def _seek(self, document: str) -> None:
        value = msgspec.json.decode(document)
        self._sought = {number: path for number, path in self._sought.items() if not has_path(value, path)}

    def _results(self, document: str) -> list[str]:
        return [msgspec.json.encode(result).decode() for result in self._program.input_text(document)]


@functools.lru_cache(maxsize=16)
def _ending(text: str) -> Any:
    return jq.compile(f"({text}\n), {msgspec.json.encode(_END).decode()}")


def _searched(path: Path) -> Path:
    """An empty array is there as well as a full one."""
    while path and path[-1] is None:
        path = path[:-1]
    return path


def _answer_all(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answerer = Answerer(*_FIRST.decode(stdin.readline()))
    while head := stdin.readline():
        kind, count, others = _HEAD.decode(head)
        batch = [stdin.readline() for _ in range(count)]
        stdout.write(answerer.answer(kind, batch, others) + b"\n")
        stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _answer_all(sys.stdin.buffer, sys.stdout.buffer)
