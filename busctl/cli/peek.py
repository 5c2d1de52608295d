"""`busctl peek`: look at what waits in a queue, within its peek budget."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import exits, flags, selecting
from busctl.cli.moving import AcceptDelayOption
from busctl.cli.printing import MessageFormat, printer_of
from busctl.cli.tail import expression
from busctl.keyfile import load_keys
from busctl_lib.errors import NotFound

_SHOWN_CHARACTERS = 16_384
"""More of a body is not laid out for a line."""


def peek(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue to look into.", show_default=False)],
    number: Annotated[int, typer.Option("-n", "--count", min=1, help="Look at so many messages.")] = 10,
    form: Annotated[MessageFormat, typer.Option("-o", "--output", help="How to print.")] = MessageFormat.PRETTY,
    where: selecting.WhereOption = None,
    undecided: selecting.UndecidedOption = selecting.Undecided.HIDE,
    jq: selecting.JqOption = None,
    fields: selecting.FieldsOption = None,
    separator: selecting.SeparatorOption = None,
    translate: selecting.TranslateOption = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Look also where that may drop or dead-letter a message.")
    ] = False,
    accept_delay: AcceptDelayOption = False,
) -> int:
    """Look at what waits in a queue, and give it back in order.

    Looking marks messages as redelivered. A quorum queue counts it before RabbitMQ 4.3, and from there on a link that
    is lost meanwhile: near the queue's delivery limit it is refused (exit code 9), as it is where delayed retry would
    hide what is given back. Of one whose messages came back before, more than -n are taken where that keeps the order,
    as far as the broker tells how many those are (not before RabbitMQ 4.0); else what is looked at goes behind them.
    What it did to the queue is said afterwards.
    """
    from busctl_lib.taps.peek import peek as look

    selecting.allow_shapes(jq=jq, fields=fields)
    keys = load_keys()
    printer = printer_of(form, fields=fields, separator=separator, keys=keys, body_limit=_SHOWN_CHARACTERS)
    with flags.open_session(ctx) as session:
        chosen = selecting.Selection(
            expression(session, where, "--where"),
            expression(session, jq, "--jq"),
            translate,
            keys,
            undecided=undecided is selecting.Undecided.SHOW,
        )
        session.broker.connect()
        try:
            found = look(
                session.broker,
                session.management,
                session.vhost,
                queue,
                number,
                accept_loss=accept_loss,
                accept_delay=accept_delay,
            )
        except NotFound as error:
            error.hint = error.hint or session.hint_for_queue(queue)
            raise
        try:
            with chosen:
                shown = [shown for _, shown in chosen.choose(found.messages)]
                chosen.print(shown, printer, form)
                chosen.tell()
        finally:
            delayed = f", {found.delayed:,} delayed" if found.delayed else ""
            exits.note(f"{queue}: {found.ready:,} ready{delayed}; {found.account}")
    return exits.ExitCode.DONE
