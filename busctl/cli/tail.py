"""`busctl tail`: live messages of queues, an exchange or a whole vhost, without taking any."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, lists, output, selecting, watching
from busctl.cli.confirm import YesOption
from busctl.cli.moving import AcceptDelayOption
from busctl.cli.printing import MessageFormat, Printer, printer_of
from busctl.keyfile import load_keys
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.expressions import Expression
    from busctl_lib.taps import TapPlan


class Via(enum.StrEnum):
    """How messages are seen."""

    AUTO = "auto"
    STREAM = "stream"
    COPY = "copy"
    FIREHOSE = "firehose"
    HOLD = "hold"
    CONSUME = "consume"


QueuesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="QUEUE", help="The queues to watch.", show_default=False)
]
ViaOption = Annotated[Via, typer.Option("--via", help="The way to see the messages; consume takes them away.")]
NumberOption = Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many messages.")]
ForOption = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after 30s, 5m, 2h.")]
ExchangeOption = Annotated[
    str | None, typer.Option("--exchange", metavar="NAME", help='Watch an exchange; "" is the default one.')
]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Of the exchange only this key (topic: pattern).")
]
AllOption = Annotated[bool, typer.Option("--all", help="Watch the whole vhost, by firehose.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="PLACE", help="Of a stream: first, last, next, an offset, a time, or 10m ago."),
]
AcceptLossOption = Annotated[
    bool, typer.Option("--accept-loss", help="Hold also where the peek budget of the queue is used up.")
]


def tail(
    ctx: typer.Context,
    queues: QueuesArgument = None,
    via: ViaOption = Via.AUTO,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would be seen, how and why, and stop.")] = False,
    number: NumberOption = None,
    for_: ForOption = None,
    form: Annotated[MessageFormat, typer.Option("-o", "--output", help="How to print.")] = MessageFormat.PRETTY,
    exchange: ExchangeOption = None,
    key: KeyOption = None,
    everything: AllOption = False,
    since: SinceOption = None,
    where: selecting.WhereOption = None,
    undecided: selecting.UndecidedOption = selecting.Undecided.HIDE,
    jq: selecting.JqOption = None,
    fields: selecting.FieldsOption = None,
    separator: selecting.SeparatorOption = None,
    translate: selecting.TranslateOption = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Show requests with their replies and the time between.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep what is shown in a capture.")
    ] = None,
    accept_loss: AcceptLossOption = False,
    accept_delay: AcceptDelayOption = False,
    yes: YesOption = False,
) -> int:
    """Show live messages of queues without taking them.

    The way is chosen so that no consumer misses or waits for a message; what it cannot show is said on stderr. Exit
    code 5 when --for ended with fewer than -n messages, 9 when no way would be true and harmless.
    """
    targets = targets_of(queues, exchange, key, everything=everything, via=via, since=since)
    targets = replace(targets, accept_loss=accept_loss, accept_delay=accept_delay)
    if via is Via.CONSUME and where is not None:
        raise ConfigError("--via consume takes every message away: --where would lose what it does not show")
    selecting.allow_shapes(jq=jq, fields=fields, pair=pair)
    seconds = None if for_ is None else lists.seconds(for_, "--for")
    keys = load_keys()
    printer = (
        selecting.PairPrinter(form, keys) if pair else printer_of(form, fields=fields, separator=separator, keys=keys)
    )
    with flags.open_session(ctx) as session:
        chosen = selecting.Selection(
            expression(session, where, "--where"),
            expression(session, jq, "--jq"),
            translate,
            keys,
            undecided=undecided is selecting.Undecided.SHOW,
        )
        if not explain:
            session.broker.connect()  # first, because everything needs it and its errors are the clearest
        plans = watching.plan_all(session, targets, explain=explain)
        if explain:
            _explain(plans, form)
            return exits.ExitCode.DONE
        watching.allow(session, plans, yes=yes)
        return _watch(session, plans, chosen, printer, form, number, seconds, save)


def _watch(
    session: Session,
    plans: list[TapPlan],
    chosen: selecting.Selection,
    printer: Printer,
    form: MessageFormat,
    number: int | None,
    seconds: float | None,
    save: Path | None,
) -> int:
    from busctl.views import formats
    from busctl_lib.captures import CaptureWriter

    with contextlib.ExitStack() as stack:
        capture = stack.enter_context(CaptureWriter(save)) if save is not None else None
        doing = watching.Watch(
            selection=chosen,
            show=lambda shown: chosen.print(shown, printer, form),
            number=number,
            seconds=seconds,
            capture=capture,
        )
        try:
            return watching.watch(session, plans, doing)
        finally:
            if isinstance(printer, selecting.PairPrinter):
                printer.end()
            if capture is not None:
                exits.note(f"{formats.counted(capture.count, 'message')} kept in {save}")


def targets_of(
    queues: list[str] | None,
    exchange: str | None,
    key: str | None,
    *,
    everything: bool,
    via: Via,
    since: str | None,
) -> watching.Targets:
    """Tell what is to be watched. Raises ConfigError when that is not one thing."""
    if bool(queues) + (exchange is not None) + everything != 1:
        raise ConfigError("name a queue, or an exchange with --exchange, or everything with --all")
    if key is not None and exchange is None:
        raise ConfigError("--key goes with --exchange")
    return watching.Targets(
        queues=queues or (),
        exchange=exchange,
        key=key,
        everything=everything,
        via=via.value,
        since=_place(since) if since is not None else "next",
    )


def _place(text: str) -> str | int:
    """Read --since: a word, an offset, an ISO time, or how long ago."""
    if text in ("first", "last", "next"):
        return text
    hint = "first, last, next, an offset, a time as 2026-01-31T12:00, or how long ago: 10m"
    now = datetime.now(UTC)
    try:
        if text.isascii() and text.isdigit() and int(text) < 2**63:
            return int(text)
        moment = datetime.fromisoformat(text).astimezone(UTC) if "-" in text or "T" in text else now - _ago(text)
    except (ValueError, OverflowError, ConfigError):
        raise ConfigError(f"--since: {text!r} is no place in a stream", hint=hint) from None
    if moment > now:
        raise ConfigError(f"--since: {text} is yet to come", hint="next is what comes from now on")
    return moment.isoformat()


def _ago(text: str) -> timedelta:
    return timedelta(seconds=lists.seconds(text, "--since"))


def expression(session: Session, text: str | None, name: str) -> Expression | None:
    """Compile what was typed, or the filter of the bus file that was named. Raises ExpressionInvalid."""
    if text is None:
        return None
    from busctl_lib.expressions import Expression

    return Expression(session.filter_named(text), name)


def _explain(plans: list[TapPlan], form: MessageFormat) -> None:
    from busctl.views.formats import safe_text

    for plan in plans:
        if form is not MessageFormat.PRETTY:
            output.write_jsonl(plan)
            continue
        lines = [f"{plan.target}: {plan.way}", f"  why    {plan.reason}", f"  sees   {plan.sees}"]
        lines += [f"  {'not' if not index else '   '}    {miss}" for index, miss in enumerate(plan.misses)]
        lines += [f"  costs  {plan.costs}"]
        for line in lines:
            output.write_line(safe_text(line))
