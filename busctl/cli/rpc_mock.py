"""`busctl rpc mock`: stand in for a service that is not there, or not yet."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags
from busctl.cli.confirm import Change, YesOption, allow
from busctl.cli.lists import seconds
from busctl.cli.selecting import piped
from busctl.views.formats import counted
from busctl_lib.codecs import read_json
from busctl_lib.errors import ConfigError, InvalidMessage, NotFound, RemoteError
from busctl_lib.methods import Method, content_type_of
from busctl_lib.validation import validate

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.envelope import Delivery, Envelope
    from busctl_lib.rpc.responder import Responder

_LOOK_S = 0.2
_COMMAND_S = 60.0
"""How long a command may take for a reply."""

Body = Callable[["Delivery"], bytes]


def mock(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="METHOD", help="The method.", show_default=False)] = None,
    queue: Annotated[
        str | None, typer.Option("-q", "--queue", metavar="QUEUE", help="Answer whatever comes to this queue instead.")
    ] = None,
    reply: Annotated[
        Path | None, typer.Option("--reply", metavar="FILE", help="Reply with the content of a file.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="CMD", help="Reply with what a command prints; it reads the request's body."),
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Reply with the request's body.")] = False,
    delay: Annotated[str, typer.Option("--delay", metavar="DURATION", help="Before each reply.")] = "0s",
    fail_rate: Annotated[
        float, typer.Option("--fail-rate", min=0.0, max=1.0, metavar="SHARE", help="This share of replies is an error.")
    ] = 0.0,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Answer so many at once.")] = 1,
    number: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many requests.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after 30s, 5m, 2h.")] = None,
    yes: YesOption = False,
) -> int:
    """Answer a method's requests in place of its service, until Ctrl-C.

    A queue that is there is consumed, beside its other consumers; one that is not is made for as long as this runs.
    """
    method = _method(ctx, name, queue)
    body = _body(reply, command, echo=echo)
    delay_s = seconds(delay, "--delay")
    for_s = None if for_ is None else seconds(for_, "--for")
    with flags.open_session(ctx) as session:
        change = Change(does=f"answer requests to {method.target}", name=method.queue, destructive=False)
        allow(session.settings, change, yes=yes)
        where = _place(session, method)
        from busctl_lib.rpc.responder import Responder

        answering = _Answering(method, body, delay_s, fail_rate)
        responder = Responder(session.broker, where, answering.answer, concurrency=concurrency)
        responder.start()
        exits.note(f"answering {method.name} on {where}; Ctrl-C ends it")
        try:
            _wait(responder, number, for_s)
        finally:
            answering.stopping.set()
            responder.stop()
            exits.note(f"{responder.answered} answered, {responder.failed} with an error, {responder.expired} too late")
    return exits.ExitCode.DONE


def _method(ctx: typer.Context, name: str | None, queue: str | None) -> Method:
    if (name is None) == (queue is None):
        raise ConfigError("name a method, or a queue with --queue", hint="see: busctl rpc mock --help")
    return flags.bus_file(ctx).method(name) if name is not None else Method(queue or "", queue or "", None, fixed={})


def _body(reply: Path | None, command: str | None, *, echo: bool) -> Body:
    if (reply is not None) + (command is not None) + echo != 1:
        raise ConfigError("what is the reply? give one of --reply FILE, --command CMD and --echo")
    if echo:
        return lambda request: request.body
    if reply is not None:
        try:
            data = reply.read_bytes()
        except OSError as error:
            raise ConfigError(f"--reply {reply}: {error.strerror or error}") from None
        return lambda _request: data
    return lambda request: _run(command or "", request)


def _run(command: str, request: Delivery) -> bytes:
    try:
        code, made, said = piped(["/bin/sh", "-c", command], request.body, _COMMAND_S)
    except subprocess.TimeoutExpired:
        raise RemoteError(f"the command was not done within {_COMMAND_S:g} s", type="CommandFailed") from None
    if code != 0:
        raise RemoteError(said or f"exit code {code}", type="CommandFailed")
    return made


def _place(session: Session, method: Method) -> str:
    """The queue to consume; it is made, and bound, where there is none."""
    broker = session.broker
    if method.exchange:
        own = broker.declare_queue("", exclusive=True).queue
        broker.bind_queue(own, method.exchange, method.queue)
        return own
    try:
        others = broker.declare_queue(method.queue, passive=True).consumer_count
    except NotFound:
        broker.declare_queue(method.queue, exclusive=True)
        exits.note(f"there is no queue {method.queue}: it is made, and gone when this ends")
        return method.queue
    if others:
        exits.note(f"{counted(others, 'other consumer')} of {method.queue} will answer a part of the requests")
    return method.queue


class _Answering:
    """Makes the replies, with the delays and failures that were asked for. Thread: the responder's workers."""

    def __init__(self, method: Method, body: Body, delay_s: float, fail_rate: float) -> None:
        self.stopping = threading.Event()
        self._method = method
        self._body = body
        self._delay_s = delay_s
        self._fail_rate = fail_rate

    def answer(self, request: Delivery) -> Envelope | None:
        """Make the reply to a request."""
        from busctl_lib.rpc.answers import body_envelope

        self.stopping.wait(self._delay_s)
        self._check(request)
        if random.random() < self._fail_rate:  # noqa: S311
            raise RemoteError("made to fail by --fail-rate", type="MockFailure")
        body = self._body(request)
        if not request.properties.reply_to:
            return None
        return body_envelope(request.properties, body, content_type=content_type_of(body))

    def _check(self, request: Delivery) -> None:
        """Refuse what the method would not take."""
        method = self._method
        if method.request is None or method.body == "text":
            return
        message = read_json(request)
        for field, value in method.constants.items():
            found = message.get(field) if isinstance(message, dict) else None
            if found != value:
                raise InvalidMessage(
                    f"this stands in for {method.name} only: {field} is {found!r:.80}",
                    field=field,
                    expected=repr(value),
                    found=repr(found),
                )
        validate(message, method.request, method.name)


def _wait(responder: Responder, number: int | None, for_s: float | None) -> None:
    deadline = None if for_s is None else time.monotonic() + for_s
    while deadline is None or time.monotonic() < deadline:
        done = responder.answered + responder.failed + responder.expired
        if number is not None and done >= number:
            return
        time.sleep(_LOOK_S if deadline is None else min(_LOOK_S, max(0.0, deadline - time.monotonic())))
