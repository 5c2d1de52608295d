"""`busctl rpc METHOD`, `busctl rpc --queue Q`: one call, or many with their figures."""

from __future__ import annotations

import enum
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import exits, flags, output
from busctl.cli.lists import require_above_0, seconds
from busctl.cli.progress import Progress
from busctl.views import calls, formats
from busctl_lib.errors import CodecError, ConfigError, InvalidMessage, RemoteError
from busctl_lib.methods import Method, coerce, content_type_of

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.rpc import Reply
    from busctl_lib.rpc.load import Load

_NUMBER = re.compile(r"^-[\d.]")
_CONCURRENCY_MAX = 1000


class ReplyFormat(enum.StrEnum):
    """How a reply is printed."""

    PRETTY = "pretty"
    JSON = "json"
    JSONL = "jsonl"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a call is made."""

    timeout_s: float | None
    retries: int
    raw: bool
    form: ReplyFormat | None


WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGS",
        help="Its arguments in order, NAME=TEXT, NAME:=JSON, @FILE or - for all of them as JSON; or the body.",
        show_default=False,
    ),
]
QueueOption = Annotated[
    str | None, typer.Option("-q", "--queue", metavar="QUEUE", help="Send the body to this queue, without any method.")
]
ExchangeOption = Annotated[
    str | None, typer.Option("-x", "--exchange", metavar="NAME", help="Send the body to an exchange.")
]
KeyOption = Annotated[str | None, typer.Option("-k", "--key", metavar="KEY", help="The routing key, with -x.")]
RawOption = Annotated[bool, typer.Option("--raw", help="The body as it is, and the reply printed as it is.")]
TimeoutOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long to wait for the reply.", show_default="5s")
]
CountOption = Annotated[int, typer.Option(min=1, help="Make so many calls and show their figures.")]
ConcurrencyOption = Annotated[int, typer.Option(min=1, max=_CONCURRENCY_MAX, help="So many at once.")]
RateOption = Annotated[float | None, typer.Option(metavar="PER_S", help="Begin at most so many a second.")]
RetryOption = Annotated[
    int, typer.Option("--retry", min=0, metavar="TIMES", help="Try again what was never sent; nothing else is.")
]
FormOption = Annotated[
    ReplyFormat | None, typer.Option("-o", "--output", help="How to print the reply.", show_default="pretty")
]


def call(
    ctx: typer.Context,
    words: WordsArgument = None,
    queue: QueueOption = None,
    exchange: ExchangeOption = None,
    key: KeyOption = None,
    raw: RawOption = False,
    timeout: TimeoutOption = None,
    count: CountOption = 1,
    concurrency: ConcurrencyOption = 1,
    rate: RateOption = None,
    retry: RetryOption = 0,
    form: FormOption = None,
) -> int:
    """Call a method and print its reply; the round trip time goes to stderr.

    Exit code 5: no reply in time, 6: nobody answers there, 7: the other side failed, 8: some of many calls failed.
    """
    method = _target(ctx, queue, exchange, key)
    given = words or []
    for word in given:
        if not raw and word.startswith("-") and word != "-" and not _NUMBER.match(word):
            raise ConfigError(f"no such option: {word}", hint=f"see: busctl rpc {ctx.info_name} --help")
    require_above_0(rate, "--rate")
    way = _Way(timeout_s=_timeout(timeout), retries=retry, raw=raw, form=form)
    try:
        message = _message(method, given, raw=raw)
    except InvalidMessage as error:
        error.hint = error.hint or f"see: busctl rpc {ctx.info_name} --help"
        raise
    with flags.open_session(ctx) as session:
        if count > 1 or concurrency > 1:
            return _many(session, method, message, way, count=count, concurrency=concurrency, rate=rate)
        return _one(session, method, message, way)


def _target(ctx: typer.Context, queue: str | None, exchange: str | None, key: str | None) -> Method:
    if key is not None and exchange is None:
        raise ConfigError("-k is the key for an exchange: name it with -x")
    if exchange is not None:
        if queue is not None:
            raise ConfigError("a request goes to a queue or to an exchange: keep one of -q and -x")
        return Method(f"{exchange}:{key or ''}", key or "", None, exchange=exchange)
    if queue is not None:
        return Method(queue, queue, None)
    name = ctx.info_name or ""
    bus = flags.bus_file(ctx)
    try:
        return bus.method(name)
    except ConfigError as error:
        if name not in bus.method_names and not (error.hint or "").startswith("did you mean"):
            error.hint = "`busctl rpc list` shows the methods, --queue QUEUE needs none"
        raise


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    from busctl_lib.rpc import TIMEOUT_MAX_S

    timeout_s = seconds(text, "--timeout")
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise ConfigError("--timeout: a call waits for above 0 and at most 49 days")
    return timeout_s


def _message(method: Method, words: list[str], *, raw: bool) -> Any:
    if raw:
        if len(words) != 1:
            raise ConfigError("--raw sends one body as it is", hint="put a body with spaces in quotes")
        return words[0].encode("utf-8", "surrogateescape")
    files = [word for word in words if word == "-" or word.startswith("@")]
    if len(files) > 1:
        raise ConfigError(f"the arguments come from one file: {files[0]} or {files[1]}")
    rest = [word for word in words if word not in files]
    data = _read(files[0]) if files else None
    if data is not None and not rest and (method.request is None or method.body == "text"):
        return data
    return coerce(method, rest, None if data is None else _fields(data, files[0]))


def _read(word: str) -> bytes:
    if word == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(word[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{word}: {error.strerror or error}", hint="for a text that begins with @: NAME=@..."
        ) from None


def _fields(data: bytes, word: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{word}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidMessage(
            f"{word}: expected an object with the arguments", field="", expected="an object", found=type(found).__name__
        )
    return found


# --- one call


def _one(session: Session, method: Method, message: Any, way: _Way) -> int:
    reply = _request(session, method, message, way)
    failure = session.caller.failure(method, reply)
    form = ReplyFormat.RAW if way.raw and way.form is None else way.form or ReplyFormat.PRETTY
    _write(session, method, reply, form, failure)
    if failure is not None:
        raise failure
    if form in (ReplyFormat.PRETTY, ReplyFormat.RAW) and way.form is None:
        exits.note(f"{method.target} answered in {formats.duration(reply.round_trip_s)}")
    return exits.ExitCode.DONE


def _request(session: Session, method: Method, message: Any, way: _Way) -> Reply:
    content_type = content_type_of(message) if isinstance(message, bytes) else None
    return session.caller.request(method, message, way.timeout_s, content_type=content_type, retries=way.retries)


def _write(session: Session, method: Method, reply: Reply, form: ReplyFormat, failure: RemoteError | None) -> None:
    """Print the reply; an error's body only where a program reads."""
    body = reply.delivery.body
    if form is ReplyFormat.RAW:
        _write_raw(body)
        return
    if failure is not None and form is ReplyFormat.PRETTY:
        return
    from busctl_lib.codecs import decode_body
    from busctl_lib.documents import body_of

    read = body_of(reply.delivery)
    body = decode_body(reply.delivery) if read.text is None else read.utf8
    decoder = session.bus.decoder_for(reply.delivery)
    if decoder is not None:
        body = decoder.decode(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        is_text = method.reply_body == "text" or decoder is not None
        _write_text(reply, body, form, failure, is_text=is_text)
        return
    if method.reply_body == "text" and form is not ReplyFormat.PRETTY:
        _write_json(json.dumps(body.decode(), ensure_ascii=False))
    elif form is ReplyFormat.PRETTY:
        _write_json(calls.pretty(value))
    else:  # from the body, so that 150.0 stays 150.0 and long numbers keep their digits
        text = msgspec.json.format(body.decode(), indent=2 if form is ReplyFormat.JSON else -1)
        _write_json(text)


def _write_json(text: str) -> None:
    output.write_json_text(calls.harmless(text).encode("utf-8", "backslashreplace") + b"\n")


def _write_raw(body: bytes) -> None:
    if output.is_terminal():
        output.write_line(formats.safe_text(body.decode("utf-8", "backslashreplace"), keep_lines=True))
    else:
        output.write_bytes(body)


def _write_text(reply: Reply, body: bytes, form: ReplyFormat, failure: RemoteError | None, *, is_text: bool) -> None:
    """Print a reply that is not JSON, where it is meant to be text."""
    said = reply.delivery.properties.content_type or ""
    if is_text or (form is ReplyFormat.PRETTY and said.startswith("text/")):
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = None
        if text is not None and form is ReplyFormat.PRETTY:
            output.write_line(formats.safe_text(text, keep_lines=True))
            return
        if text is not None:
            _write_json(json.dumps(text, ensure_ascii=False))
            return
    if failure is None:
        what = f"{formats.size(len(body))}{f', {said}' if said else ''}"
        raise CodecError(f"the reply is not JSON ({what})", hint="-o raw prints it as it is")


# --- many


def _many(
    session: Session, method: Method, message: Any, way: _Way, *, count: int, concurrency: int, rate: float | None
) -> int:
    from busctl_lib.rpc.load import Load

    def once() -> None:
        reply = _request(session, method, message, way)
        failure = session.caller.failure(method, reply)
        if failure is not None:
            raise failure

    session.broker.connect()  # so that its errors are told once, and the times are of calls alone
    load = Load(once, count=count, concurrency=concurrency, rate=rate)
    with Progress() as progress:
        try:
            report = load.run(lambda done: progress.show(f"{method.name}: {done} of {count}"), 0.2)
        except KeyboardInterrupt:
            load.stop()
            _account(session, load, concurrency, way.form)
            raise
    _account(session, load, concurrency, way.form)
    if load.first_error is None:
        return exits.ExitCode.DONE
    if not report.replied:
        raise load.first_error
    exits.note(f"busctl: {load.first_error}")
    return exits.ExitCode.PARTLY


def _account(session: Session, load: Load, concurrency: int, form: ReplyFormat | None) -> None:
    report, strays = load.report(), vars(session.caller.strays)
    if form in (ReplyFormat.JSON, ReplyFormat.JSONL):
        write = output.write_json if form is ReplyFormat.JSON else output.write_jsonl
        write(calls.load_json(report, strays))
    else:
        output.write("".join(f"{line}\n" for line in calls.load_lines(report, concurrency, strays)))
