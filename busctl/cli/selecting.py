"""What of a flow of messages is shown: --where, --jq, --translate, and pairs of requests and replies."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import exits, output
from busctl.cli.printing import Jsonl, MessageFormat, Printer
from busctl.views import formats
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl_lib.codecs import Keyring
    from busctl_lib.envelope import Delivery
    from busctl_lib.expressions import Expression, GuardedExpression
    from busctl_lib.rpc.pairs import SpiedCall

WhereOption = Annotated[
    str | None, typer.Option("--where", metavar="JQ", help="Only messages whose document this jq expression matches.")
]


class Undecided(enum.StrEnum):
    """What becomes of messages that --where cannot decide."""

    HIDE = "hide"
    SHOW = "show"


UndecidedOption = Annotated[
    Undecided,
    typer.Option("--undecided", help="Messages that --where cannot decide, since their body could not be read."),
]
JqOption = Annotated[
    str | None, typer.Option("--jq", metavar="JQ", help="Print what this jq expression makes of each document.")
]
FieldsOption = Annotated[
    str | None, typer.Option("--fields", metavar="A,B.C", help="Print only these fields of each document.")
]
SeparatorOption = Annotated[
    str | None, typer.Option("--raw-separator", metavar="TEXT", help=r"What stands behind each raw body: \n, \0, ...")
]
TranslateOption = Annotated[
    str | None, typer.Option("--translate", metavar="CMD", help="Show what this command makes of each body.")
]
_TRANSLATE_S = 10.0


class Selection(contextlib.ExitStack):
    """Chooses and shapes messages; its expressions run in processes of their own while it is entered.

    Args:
        where: Only what matches.
        jq: What is printed of each.
        translate: A command that bodies are piped through before.
        keys: To decode bodies with.
        undecided: Whether messages that `where` cannot decide are chosen.
    """

    def __init__(
        self,
        where: Expression | None = None,
        jq: Expression | None = None,
        translate: str | None = None,
        keys: Keyring | None = None,
        *,
        undecided: bool = False,
    ) -> None:
        super().__init__()
        self._keys = keys
        self._where = self._guarded(where)
        self._jq = self._guarded(jq)
        self._translate = _command(translate) if translate is not None else None
        self._translate_failed = 0
        self._takes_undecided = undecided
        self._warned = False
        self._made: dict[int, bytes] = {}
        """The whole documents of what was chosen last, by its identity, where the choice needed them: made once."""
        self.narrows = where is not None
        """Whether it shows fewer messages than come."""

    def __enter__(self) -> Selection:
        super().__enter__()
        for guarded in (self._where, self._jq):
            if guarded is not None:
                self.enter_context(guarded)
        return self

    def _guarded(self, expression: Expression | None) -> GuardedExpression | None:
        from busctl_lib.expressions import GuardedExpression

        return GuardedExpression(expression) if expression is not None else None

    def choose(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Delivery]]:
        """Give what matches, as it came and as it is to be shown."""
        pairs = [(delivery, self._translated(delivery)) for delivery in deliveries]
        if self._where is None or not pairs:
            return pairs
        from busctl_lib.documents import question

        reads = self._where.reads
        questions = [question(shown, keys=self._keys, only=reads) for _, shown in pairs]
        whole = zip(pairs, questions, strict=True) if reads is None else ()
        self._made = {id(shown): asked.document for (_, shown), asked in whole}
        answers = self._where.decide(questions)
        return [
            pair
            for pair, answer in zip(pairs, answers, strict=True)
            if answer or (answer is None and self._takes_undecided)
        ]

    @property
    def undecided(self) -> int:
        """How many messages --where could not decide so far."""
        return self._where.undecided.total if self._where is not None else 0

    def warn(self) -> None:
        """Say so when --where cannot decide a message for the first time."""
        if self._where is not None and self.undecided and not self._warned:
            self._warned = True
            reason = next(iter(self._where.undecided.reasons))
            became = "shown all the same" if self._takes_undecided else "left out"
            exits.note(f"--where cannot decide a message: {reason}; {became}, and counted at the end")

    def tell(self, how: str = "--undecided show shows them") -> None:
        """Say what --where could not decide, and what it reads and no message has.

        Args:
            how: What takes the undecided, too.
        """
        if self._where is None:
            return
        became = "taken all the same" if self._takes_undecided else f"left out; {how}"
        for sentence in self._where.undecided.sentences(trouble=not self._warned):
            exits.note(f"{sentence}: {became}")
        for sentence in self._where.notes():
            exits.note(f"--where: {sentence}")

    def print(self, shown: Sequence[Delivery], printer: Printer, form: MessageFormat) -> None:
        """Print what was chosen."""
        if self._jq is None and self._made and isinstance(printer, Jsonl):
            output.write_json_text(b"".join(line + b"\n" for line in self._documents(shown)))
            return
        if self._jq is None:
            printer.print(shown)
            return
        if shown:
            found = self._jq.results(self._documents(shown))
            _tell_once(self._jq)
            lines = [_result(bytes(one), form) for results in found for one in results]
            raw = output.write_text if output.is_terminal() else output.write_bytes
            (raw if form is MessageFormat.RAW else output.write_json_text)(b"".join(lines))

    def _documents(self, deliveries: Sequence[Delivery], only: frozenset[str] | None = None) -> list[bytes]:
        from busctl_lib.documents import to_json

        made = self._made
        return [made.get(id(each)) or to_json(each, keys=self._keys, only=only) for each in deliveries]

    def _translated(self, delivery: Delivery) -> Delivery:
        if self._translate is None:
            return delivery
        from busctl_lib.codecs import without_steps

        try:
            code, made, said = piped(self._translate, delivery.body, _TRANSLATE_S)
        except subprocess.TimeoutExpired:
            self._translate = None
            exits.note(f"--translate: {_TRANSLATE_S:g} s were not enough for a body; from here on all are as they are")
            return delivery
        except OSError as error:
            said = str(error)
        else:
            if code == 0:
                content_type = (delivery.properties.content_type or "").partition(";")[0].strip() or None
                properties = without_steps(delivery.properties)
                properties = msgspec.structs.replace(properties, content_type=content_type, content_encoding=None)
                return msgspec.structs.replace(delivery, body=made, properties=properties, wire_size=None)
            said = f"exit code {code}: {said}"
        if not self._translate_failed:
            exits.note(f"--translate failed, the body is shown as it is ({said})")
        self._translate_failed += 1
        return delivery


def allow_shapes(*, jq: str | None, fields: str | None, pair: bool = False) -> None:
    """Raises ConfigError where more than one way to shape what is printed was given."""
    if pair + (jq is not None) + (fields is not None) > 1:
        raise ConfigError("--jq, --fields and --pair are three ways to shape what is printed: choose one")


def _command(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--translate: {error}") from None
    if not words:
        raise ConfigError("--translate: which command?")
    return ["/bin/sh", "-c", text]


def piped(command: list[str], body: bytes, timeout_s: float) -> tuple[int, bytes, str]:
    """Give a body to a command: its exit code, what it made and what it complained of. What it started ends with it.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    with subprocess.Popen(  # noqa: S603 - the command is the user's own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            made, said = process.communicate(body, timeout=timeout_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, made, said.decode("utf-8", "backslashreplace").strip()[:200]


def _tell_once(guarded: GuardedExpression) -> None:
    if guarded.trouble is not None and guarded.expression.trouble is None:
        guarded.expression.trouble = guarded.trouble
        exits.note(f"{guarded.expression.name}: a message it fails on is left out ({guarded.trouble})")


def _result(one: bytes, form: MessageFormat) -> bytes:
    """A result as a line: JSON, or with `-o raw` of a string the text itself."""
    if form is MessageFormat.RAW and one[:1] == b'"':
        text = msgspec.json.decode(one, type=str)
        one = (formats.safe_text(text, keep_lines=True) if output.is_terminal() else text).encode()
    elif output.is_terminal():
        one = formats.safe_text(one.decode()).encode()
    return one + b"\n"


class PairPrinter(Printer):
    """Prints requests with their replies and the time between; counts what has no other half."""

    def __init__(self, form: MessageFormat, keys: Keyring | None = None) -> None:
        from busctl_lib.rpc.pairs import Pairs

        self._pairs = Pairs()
        self._form = form
        self._keys = keys
        self.printed = 0

    def print(self, deliveries: Sequence[Delivery]) -> None:
        """Print the pairs that these messages complete, and the requests that waited too long."""
        calls = [call for delivery in deliveries for call in self._pairs.take(delivery)]
        calls += self._pairs.expire(time.time())
        lines = [line for call in calls for line in self._lines(call)]
        (output.write_text if self._form is MessageFormat.PRETTY else output.write_json_text)(b"".join(lines))

    def end(self) -> None:
        """Say what is still without a reply."""
        if self._pairs.open:
            exits.note(f"{formats.counted(self._pairs.open, 'request')} without a reply so far")

    def _lines(self, call: SpiedCall) -> Iterator[bytes]:
        if self._form is MessageFormat.PRETTY:
            took = formats.duration(call.latency_s) if call.latency_s is not None else formats.UNKNOWN
            halves = f"{_brief(call.request)} -> {_brief(call.reply)}"
            yield f"{took:>8}  {call.state:<9}  {formats.safe_text(call.method)}  {halves}\n".encode()
            return
        from busctl_lib.documents import document

        found: dict[str, Any] = {"state": call.state, "method": call.method, "queue": call.queue}
        found |= {"correlation_id": call.correlation_id, "seconds": call.latency_s, "error": call.error}
        found |= {
            name: document(half, keys=self._keys)
            for name, half in (("request", call.request), ("reply", call.reply))
            if half is not None
        }
        yield msgspec.json.encode({name: value for name, value in found.items() if value is not None}) + b"\n"


def _brief(delivery: Delivery | None) -> str:
    from busctl.views import messages

    return formats.UNKNOWN if delivery is None else messages.one_line(delivery, 100)
