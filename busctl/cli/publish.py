"""`busctl publish`: send messages and say what became of them."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import confirm, exits, flags, output, templates
from busctl.cli.bodies import Body, body_of, of_bytes
from busctl.cli.confirm import YesOption
from busctl.cli.lists import require_above_0, seconds
from busctl.cli.sending import Letters, Sending, stamped
from busctl.views import formats
from busctl_lib.envelope import PROPERTY_NAMES, Envelope, Properties
from busctl_lib.errors import BusError, ConfigError, InvalidMessage, PublishRefused, Unroutable
from busctl_lib.pairs import object_of
from busctl_lib.schemas import nearest, schema_of, validate

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.codecs import Keyring

_INTEGERS = {"delivery_mode": (1, 2), "priority": (0, 255), "timestamp": (0, 2**63 - 1)}
"""The least and the most of each."""
_BINDINGS = 8
"""So many bindings are named where none fits."""
_EXPIRATION_MAX_MS = 2**32 - 1
_DIRECT = [name for name in PROPERTY_NAMES if name != "headers"]


class ReceiptFormat(enum.StrEnum):
    """How the outcome is printed."""

    PRETTY = "pretty"
    JSON = "json"
    JSONL = "jsonl"


WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUEUE MESSAGE",
        help="The queue; then a body, or NAME=TEXT and NAME:=JSON pairs that make one, or @FILE, or - for standard "
        "input. {{n}} {{uuid}} {{now}} {{rand 1 100}} are filled in for each message.",
        show_default=False,
    ),
]
ExchangeOption = Annotated[
    str | None, typer.Option("-x", "--exchange", metavar="NAME", help="Send to an exchange instead of a queue.")
]
KeyOption = Annotated[str | None, typer.Option("-k", "--key", metavar="KEY", help="The routing key, with -x.")]
HeaderOption = Annotated[
    list[str] | None, typer.Option("-H", "--header", metavar="NAME=TEXT", help="A header; NAME:=JSON as well.")
]
PropertyOption = Annotated[
    list[str] | None, typer.Option("-P", "--property", metavar="NAME=VALUE", help="An AMQP property.")
]
RawOption = Annotated[bool, typer.Option("--raw", help="The body as it is, even if it looks like a pair.")]
CheckOption = Annotated[
    bool,
    typer.Option("--check/--no-check", "--validate/--no-validate", help="Check a message whose action has a schema."),
]
CountOption = Annotated[int, typer.Option(min=1, help="How many times to send it.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="At most so many on their way at a time.")
]
CompressOption = Annotated[
    str | None, typer.Option(metavar="zstd|gzip", help="Compress the body, where that makes it smaller.")
]
EncryptOption = Annotated[bool, typer.Option("--encrypt", help="Encrypt the body with the current key (busctl keys).")]
DelayOption = Annotated[str | None, typer.Option(metavar="DURATION", help="Arrive so much later: 30s, 2h.")]
PriorityOption = Annotated[int | None, typer.Option(min=0, max=255, help="The message's priority.")]
RateOption = Annotated[float | None, typer.Option(metavar="PER_S", help="At most so many a second.")]
TimeoutOption = Annotated[str, typer.Option(metavar="DURATION", help="How long each may take to be confirmed.")]
FormOption = Annotated[
    ReceiptFormat | None, typer.Option("-o", "--output", help="How to print the outcome.", show_default="pretty")
]


def publish(
    ctx: typer.Context,
    words: WordsArgument = None,
    exchange: ExchangeOption = None,
    key: KeyOption = None,
    headers: HeaderOption = None,
    properties: PropertyOption = None,
    raw: RawOption = False,
    check: CheckOption = True,
    count: CountOption = 1,
    rate: RateOption = None,
    concurrency: ConcurrencyOption = None,
    timeout: TimeoutOption = "30s",
    delay: DelayOption = None,
    priority: PriorityOption = None,
    compress: CompressOption = None,
    encrypt: EncryptOption = False,
    form: FormOption = None,
    yes: YesOption = False,
) -> None:
    """Publish a message and wait until the broker has it."""
    queue, rest = _split(words or [], exchange, key)
    require_above_0(rate, "--rate")
    timeout_s = confirm_timeout_s(timeout)
    draft = Draft(
        exchange=exchange or "",
        routing_key=key or "" if queue is None else queue,
        words=_read(rest, raw=raw),
        raw=raw,
        check=check,
        headers=headers or [],
        properties=[*(properties or []), *([f"priority={priority}"] if priority is not None else [])],
        compress=_compression(compress),
        keys=_keys() if encrypt else None,
    )
    delay_s = None if delay is None else seconds(delay, "--delay")
    draft.envelope(1)  # what is wrong with it is told before anything is connected
    letters = ((index / rate if rate is not None else 0.0, draft.envelope(index + 1)) for index in range(count))
    with flags.open_session(ctx) as session:
        change = confirm.Change(
            does=f"publish {formats.counted(count, 'message')} to {draft.target!r}",
            name=draft.target,
            destructive=False,
        )
        confirm.allow(session.settings, change, yes=yes)
        sending = Sending(
            session.broker,
            letters if delay_s is None else _later(session, letters, delay_s),
            count=count,
            target=draft.target,
            timeout_s=timeout_s,
            concurrency=concurrency,
        )
        _send(sending, session, form)


def confirm_timeout_s(text: str) -> float:
    """Read --timeout. Raises ConfigError."""
    timeout_s = seconds(text, "--timeout")
    if not timeout_s:
        raise ConfigError("--timeout must be above 0: a publish without a confirm is not known to have arrived")
    return timeout_s


def _later(session: Session, letters: Letters, delay_s: float) -> Letters:
    from busctl_lib.delays import Delays

    delays = Delays(session.broker)
    return ((due_s, delays.delayed(envelope, delay_s)) for due_s, envelope in letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What was typed, from which each message is made."""

    exchange: str
    routing_key: str
    words: list[str] | bytes
    """What makes the body."""
    raw: bool
    check: bool
    headers: list[str]
    properties: list[str]
    compress: str | None
    keys: Keyring | None

    @property
    def target(self) -> str:
        """Where it goes, in a word."""
        return self.exchange or self.routing_key

    def envelope(self, number: int) -> Envelope:
        """Make one message, the first has the number 1. Raises ConfigError or InvalidMessage."""
        fill = (lambda text: text) if self.raw else (lambda text: templates.render(text, number))
        if isinstance(self.words, bytes):
            body = of_bytes(self.words if self.raw else _filled(self.words, number))
        else:
            body = body_of([fill(word) for word in self.words], raw=self.raw)
        if self.check:
            _validate(body)
        made = stamped(
            Envelope(
                exchange=self.exchange,
                routing_key=fill(self.routing_key),
                properties=_properties(list(map(fill, self.headers)), list(map(fill, self.properties)), body),
                body=body.data,
            )
        )
        if self.compress is not None or self.keys is not None:
            from busctl_lib.codecs import encode_body

            encode_body(made, compress=self.compress, keys=self.keys)
        return made


def _filled(data: bytes, number: int) -> bytes:
    """Fill in the variables of a body that is text."""
    if b"{{" not in data:
        return data
    return templates.render(data.decode("utf-8", "surrogateescape"), number).encode("utf-8", "surrogateescape")


def _read(words: list[str], *, raw: bool) -> list[str] | bytes:
    """Read the body where it is not in the words themselves, and look at the variables in it."""
    if raw:
        return words
    for word in words:
        templates.check(word)
    if words == ["-"]:
        return sys.stdin.buffer.read()
    if len(words) != 1 or not words[0].startswith("@"):
        return words
    try:
        data = Path(words[0][1:]).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{words[0][1:]} cannot be read: {error.strerror or error}", hint="--raw sends the text as it is"
        ) from None
    templates.check(data.decode("utf-8", "surrogateescape"))
    return data


def _compression(name: str | None) -> str | None:
    from busctl_lib.codecs import COMPRESSIONS

    if name is not None and name not in COMPRESSIONS:
        raise ConfigError(f"--compress: one of {', '.join(COMPRESSIONS)}, found {formats.safe_text(name, 40)!r}")
    return name


def _keys() -> Keyring:
    from busctl.keyfile import load_keys

    held = load_keys()
    if held is None:
        raise ConfigError("--encrypt: there are no keys", hint="`busctl keys generate` makes one")
    return held


def _send(sending: Sending, session: Session, form: ReceiptFormat | None) -> None:
    """Send and print the account, whatever the end."""
    try:
        stopped_by = sending.run(output.write_jsonl if form is ReceiptFormat.JSONL else None)
    except Unroutable as error:
        raise _with_nearest(error, session) from None
    except PublishRefused as error:
        if "NOT_FOUND" in str(error):
            error.hint = session.hint_for_exchange(str(error.facts.get("exchange", "")))
        raise
    finally:
        if sending.started:
            _account(sending, form)
    if stopped_by is not None:
        session.explain(stopped_by)
        hint = f" ({stopped_by.hint})" if stopped_by.hint else ""
        exits.note(f"busctl: stopped half-way: {stopped_by}{hint}")
        raise typer.Exit(exits.ExitCode.PARTLY)


def _split(words: list[str], exchange: str | None, key: str | None) -> tuple[str | None, list[str]]:
    """Tell the queue, if there is one, from what makes the body."""
    if exchange is not None:
        return None, words
    if key is not None:
        raise ConfigError("-k is the key for an exchange: name it with -x")
    if not words:
        raise ConfigError("to which queue? name it first, or an exchange with -x", hint="see: busctl publish --help")
    return words[0], words[1:]


def _validate(body: Body) -> None:
    schema = schema_of(body.message) if isinstance(body.message, dict) else None
    if schema is None:
        return
    try:
        validate(body.message, schema)
    except InvalidMessage as error:
        name, found = error.facts["field"], error.facts["found"]
        number = error.facts["expected"].startswith(("a number", "an integer"))
        if body.from_pairs and number and isinstance(body.message.get(name), str):
            error.hint = f"write {name}:={found.strip(chr(34))} for a number"
        error.hint = error.hint or "--no-check sends it anyway"
        raise


def _properties(headers: list[str], given: list[str], body: Body) -> Properties:
    values: dict[str, Any] = {"content_type": body.content_type, "delivery_mode": 2}
    for word in given:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"-P {formats.safe_text(word, 40)!r} is not NAME=VALUE")
        if name not in _DIRECT:
            meant = nearest(name, _DIRECT)
            hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(_DIRECT)}"
            raise ConfigError(f"{formats.safe_text(name, 40)!r} is not an AMQP property", hint=hint)
        values[name] = _property(name, text)
    return Properties(headers=object_of(headers, "-H ") or None, **values)


def _property(name: str, text: str) -> str | int:
    digits = text.isascii() and text.isdigit()
    if name == "expiration":
        milliseconds = int(text) if digits else int(seconds(text, "-P expiration") * 1000)
        if milliseconds > _EXPIRATION_MAX_MS:
            raise ConfigError(f"-P expiration: RabbitMQ takes at most {_EXPIRATION_MAX_MS} ms (49 days)")
        return str(milliseconds)
    if name not in _INTEGERS:
        return text
    least, most = _INTEGERS[name]
    if not digits or not least <= int(text) <= most:
        found = formats.safe_text(text, 40)
        raise ConfigError(f"-P {name}: expected a whole number from {least} to {most}, found {found!r}")
    return int(text)


def _with_nearest(error: Unroutable, session: Session) -> Unroutable:
    """Add the queue that was probably meant, or what the exchange has for bindings, if the API can be asked."""
    sent = error.facts
    if not sent.get("exchange"):
        return Unroutable(str(error), **(sent | {"hint": session.hint_for_queue(sent["routing_key"])}))
    try:
        bindings = session.management.exchange_bindings(session.vhost, sent["exchange"])
    except BusError:
        return error
    listed = [f"{info.routing_key or info.arguments or ''!r} to {info.destination}" for info in bindings[:_BINDINGS]]
    more = f" and {len(bindings) - _BINDINGS} more" if len(bindings) > _BINDINGS else ""
    hint = f"its bindings are {', '.join(listed)}{more}" if listed else "nothing is bound to it"
    return Unroutable(str(error), **(sent | {"hint": hint}))


def _account(sending: Sending, form: ReceiptFormat | None) -> None:
    if form is ReceiptFormat.JSON:
        output.write_json(sending.operation())
    elif form is not ReceiptFormat.JSONL and sending.state != "failed":
        output.write_line(formats.safe_text(sending.summary()))
