"""`busctl publish`: send messages and say what became of them."""

from __future__ import annotations

import enum
import json
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import exits, flags, output
from busctl.cli.lists import seconds
from busctl.cli.sending import Sending
from busctl.views import formats
from busctl_lib.envelope import PROPERTY_NAMES, Envelope, Properties
from busctl_lib.errors import ConfigError, InvalidMessage, Unroutable
from busctl_lib.schemas import nearest, schema_of, validate

if TYPE_CHECKING:
    from busctl.session import Session

_PAIR = re.compile(r"^(?P<name>[A-Za-z_][\w.-]*)(?P<sign>:=|=)(?P<text>.*)$", re.DOTALL)
_INTEGERS = {"delivery_mode": (1, 2), "priority": (0, 255), "timestamp": (0, 2**63 - 1)}
"""The least and the most of each."""
_EXPIRATION_MAX_MS = 2**32 - 1
_DIRECT = [name for name in PROPERTY_NAMES if name != "headers"]


class ReceiptFormat(enum.StrEnum):
    """How the outcome is printed."""

    PRETTY = "pretty"
    JSON = "json"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Body:
    """What to send: the bytes, and the message they stand for where it is JSON."""

    data: bytes
    content_type: str
    message: Any = None
    from_pairs: bool = field(default=False)


WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUEUE MESSAGE",
        help="The queue; then a body, or NAME=TEXT and NAME:=JSON pairs that make one, or - for standard input.",
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
    bool, typer.Option("--validate/--no-validate", help="Check a message whose action has a schema.")
]
CountOption = Annotated[int, typer.Option(min=1, help="How many times to send it.")]
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
    timeout: TimeoutOption = "30s",
    form: FormOption = None,
) -> None:
    """Publish a message and wait until the broker has it.

    For example: busctl publish orders action=place_order quantity:=100
    """
    queue, rest = _split(words or [], exchange, key)
    if rate is not None and not rate > 0:  # nan is not
        raise ConfigError("--rate must be above 0")
    timeout_s = seconds(timeout, "--timeout")
    body = _body(rest, raw=raw)
    if check:
        _validate(body)
    envelope = Envelope(
        exchange=exchange or "",
        routing_key=key or "" if queue is None else queue,
        properties=_properties(headers or [], properties or [], body),
        body=body.data,
    )
    with flags.open_session(ctx) as session:
        sending = Sending(session.broker, envelope, count=count, rate=rate, timeout_s=timeout_s)
        _send(sending, session, form)


def _send(sending: Sending, session: Session, form: ReceiptFormat | None) -> None:
    """Send and print the account, whatever the end."""
    try:
        stopped_by = sending.run(output.write_jsonl if form is ReceiptFormat.JSONL else None)
    except Unroutable as error:
        raise _with_nearest(error, session) from None
    finally:
        if sending.started:
            _account(sending, form)
    if stopped_by is not None:
        exits.note(f"busctl: {stopped_by}")
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


def _body(words: list[str], *, raw: bool) -> Body:
    if words == ["-"] and not raw:
        return _of_bytes(sys.stdin.buffer.read())
    pairs = [] if raw else [_PAIR.match(word) for word in words]
    if pairs and all(pairs):
        message = _object([pair for pair in pairs if pair is not None])
        return Body(json.dumps(message, ensure_ascii=False).encode(), "application/json", message, from_pairs=True)
    if not words:
        raise ConfigError("no message: give NAME=TEXT pairs, a body, or - to read standard input")
    if len(words) > 1:
        odd = next((word for word, pair in zip(words, pairs, strict=False) if pair is None), words[1])
        raise ConfigError(
            f"{formats.safe_text(odd, 40)!r} is neither NAME=TEXT nor NAME:=JSON, and a body is one argument",
            hint="put a body with spaces in quotes",
        )
    return _of_bytes(words[0].encode("utf-8", "surrogateescape"))


def _object(pairs: list[re.Match[str]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for pair in pairs:
        if pair["name"] in made:
            raise ConfigError(f"{pair['name']} is given twice")
        made[pair["name"]] = _value(pair)
    return made


def _value(pair: re.Match[str]) -> Any:
    try:
        pair["text"].encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{pair['name']}: {formats.safe_text(pair['text'], 40)!r} is not valid UTF-8",
            hint="such bytes can only be a whole body",
        ) from None
    if pair["sign"] == "=":
        return pair["text"]
    try:
        return json.loads(pair["text"], parse_constant=_no_constant)
    except ValueError:
        raise ConfigError(
            f"{pair['name']}: {formats.safe_text(pair['text'], 40)!r} is not JSON",
            hint=f"for text write {pair['name']}=...",
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _of_bytes(data: bytes) -> Body:
    """Look at what a body is; it is sent as it is in any case."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Body(data, "application/octet-stream")
    try:
        return Body(data, "application/json", json.loads(text, parse_constant=_no_constant))
    except ValueError:
        return Body(data, "text/plain")


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
        error.hint = error.hint or "--no-validate sends it anyway"
        raise


def _properties(headers: list[str], given: list[str], body: Body) -> Properties:
    values: dict[str, Any] = {"content_type": body.content_type, "delivery_mode": 2}
    for word in given:
        name, _, text = word.partition("=")
        if name not in _DIRECT:
            meant = nearest(name, _DIRECT)
            hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(_DIRECT)}"
            raise ConfigError(f"{formats.safe_text(name, 40)!r} is not an AMQP property", hint=hint)
        values[name] = _property(name, text)
    pairs = [_PAIR.match(word) for word in headers]
    if not all(pairs):
        odd = headers[pairs.index(None)]
        raise ConfigError(f"-H {formats.safe_text(odd, 40)!r} is neither NAME=TEXT nor NAME:=JSON")
    return Properties(headers=_object([pair for pair in pairs if pair is not None]) or None, **values)


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
    """Add the queue that was probably meant, if the API can be asked."""
    sent = error.facts
    if sent.get("exchange"):
        return error
    return Unroutable(str(error), **(sent | {"hint": session.hint_for_queue(sent["routing_key"])}))


def _account(sending: Sending, form: ReceiptFormat | None) -> None:
    if form is ReceiptFormat.JSON:
        output.write_json(sending.operation())
    elif form is not ReceiptFormat.JSONL and sending.state != "failed":
        output.write_line(formats.safe_text(sending.summary()))
