"""`busctl play`: publish the messages of captures again."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl.cli import confirm, exits, flags, lists, moving, output, selecting
from busctl.cli.confirm import YesOption
from busctl.cli.publish import FormOption, ReceiptFormat, TimeoutOption, confirm_timeout_s
from busctl.cli.sending import Sending
from busctl.cli.tail import expression
from busctl.keyfile import load_keys
from busctl.views import formats
from busctl_lib.broker_headers import AT_DELIVERY
from busctl_lib.envelope import Envelope
from busctl_lib.errors import ConfigError, InvalidMessage

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.envelope import Delivery
    from busctl_lib.expressions import Expression, GuardedExpression

_BATCH = 64
_OF_ONE_DELIVERY = frozenset(AT_DELIVERY)
_KEYS = frozenset({"CC", "BCC"})
"""Headers by which a message goes to other queues as well."""


def play(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Captures, exports of the management API, what rabtap wrote, or - for standard input.",
            show_default=False,
        ),
    ],
    to: Annotated[str | None, typer.Option("--to", metavar="QUEUE", help="To this queue, not where they went.")] = None,
    speed: Annotated[float | None, typer.Option(metavar="N", help="2 is twice as fast; default: as recorded.")] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="PER_S", help="So many a second, whatever the gaps were.")
    ] = None,
    where: selecting.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    edit: Annotated[
        str | None, typer.Option("--edit", metavar="JQ", help="Change each body, which must be JSON.")
    ] = None,
    number: Annotated[int | None, typer.Option("-n", "--count", min=1, help="At most so many messages.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent where, and send nothing.")] = False,
    timeout: TimeoutOption = "30s",
    form: FormOption = None,
    yes: YesOption = False,
) -> int:
    """Publish captured messages again, exactly as they were, with the gaps they had.

    A message that no queue takes, or that is refused, does not stop the others; the account says how many (exit code
    8). Broken messages of a capture are found before the first is sent.
    """
    _check(speed, rate)
    if to == "":
        raise ConfigError("--to: name a queue")
    timeout_s = confirm_timeout_s(timeout)
    with flags.open_session(ctx) as session:
        takes = undecided is moving.Undecided.TAKE
        chosen = selecting.Selection(expression(session, where, "--where"), keys=load_keys(), undecided=takes)
        user = session.broker.endpoints[0].username
        playlist = Playlist(files, chosen, expression(session, edit, "--edit"), to, number, user)
        with playlist:
            playlist.look()
            if dry_run:
                _preview(playlist)
                return exits.ExitCode.DONE
            if not playlist.count:
                exits.note("nothing to publish")
                return exits.ExitCode.DONE
            _allow(session, playlist, yes=yes)
            sending = Sending(
                session.broker,
                ((due, _envelope(delivery, to, user)) for due, delivery in _due(playlist, speed, rate)),
                count=playlist.count,
                target=to or ", ".join(files),
                kind="play",
                timeout_s=timeout_s,
                go_on=True,
            )
            return _send(sending, session, form, 0 if takes else playlist.undecided)


def _check(speed: float | None, rate: float | None) -> None:
    if speed is not None and rate is not None:
        raise ConfigError("--speed keeps the gaps in proportion, --rate ignores them: choose one")
    lists.require_above_0(speed, "--speed")
    lists.require_above_0(rate, "--rate")


class Playlist(contextlib.ExitStack):
    """What is to be published: read once to find what is broken and to count, and once more to be sent."""

    def __init__(
        self,
        files: Sequence[str],
        chosen: selecting.Selection,
        edit: Expression | None,
        to: str | None,
        number: int | None,
        user: str | None,
    ) -> None:
        from busctl_lib.expressions import GuardedExpression

        super().__init__()
        self.count = self.undecided = 0
        self.routes: Counter[tuple[str, str]] = Counter()
        """How many go where; known after `look`."""
        self._chosen = chosen
        self._edit = GuardedExpression(edit) if edit is not None else None
        self._to = to
        self._number = number
        self._user = user
        self._paths = [self._spooled() if file == "-" else Path(file) for file in files]
        self._told: set[str] = set()

    def __enter__(self) -> Playlist:
        super().__enter__()
        self.enter_context(self._chosen)
        if self._edit is not None:
            self.enter_context(self._edit)
        return self

    def _spooled(self) -> Path:
        """Keep standard input, which can be read only once."""
        file = self.enter_context(tempfile.NamedTemporaryFile(prefix="busctl-"))  # noqa: SIM115
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        return Path(file.name)

    def look(self) -> None:
        """Read all of it. Raises what is wrong with it."""
        from busctl_lib.transfers.origins import USER_ID, without_foreign_user
        from busctl_lib.transfers.plans import REFUSED

        foreign = 0
        for delivery in self:
            self.count += 1
            foreign += without_foreign_user(delivery.properties, self._user) is not delivery.properties
            self.routes[(delivery.exchange, delivery.routing_key) if self._to is None else ("", self._to)] += 1
        self.undecided = self._chosen.undecided
        self._chosen.tell("--undecided take sends them")
        if foreign:
            exits.note(f"{REFUSED[USER_ID]}: left out of {formats.counted(foreign, 'message')}")

    def __iter__(self) -> Iterator[Delivery]:
        for delivery in itertools.islice(self._matching(), self._number):
            yield delivery if self._edit is None else _edited(delivery, self._edit)

    def _matching(self) -> Iterator[Delivery]:
        from busctl_lib.captures import CaptureReader

        for path in self._paths:
            reader = CaptureReader(path)
            messages = iter(reader)
            while batch := list(itertools.islice(messages, _BATCH)):
                for found, _ in self._chosen.choose(batch):
                    yield found
            reader.require_messages()
            for warning in reader.warnings:
                if warning not in self._told:
                    self._told.add(warning)
                    exits.note(warning)


def _edited(delivery: Delivery, guarded: GuardedExpression) -> Delivery:
    from busctl_lib.transfers.targets import Stays, edited

    try:
        return msgspec.structs.replace(delivery, body=edited(guarded, delivery))
    except Stays as error:
        where = _where_to((delivery.exchange, delivery.routing_key))
        raise InvalidMessage(
            f"a message to {where} cannot be edited: {error}; nothing was sent", field="body", expected="", found=""
        ) from None


def _envelope(delivery: Delivery, to: str | None, user: str | None) -> Envelope:
    """Make what is sent: the message as it was, without what the broker adds on reading, or more keys beside --to."""
    from busctl_lib.transfers.origins import without_foreign_user

    properties = without_foreign_user(delivery.properties, user)
    left_out = _OF_ONE_DELIVERY if to is None else _OF_ONE_DELIVERY | _KEYS
    if properties.headers and not left_out.isdisjoint(properties.headers):
        kept = {name: value for name, value in properties.headers.items() if name not in left_out}
        properties = msgspec.structs.replace(properties, headers=kept or None)
    return Envelope(
        exchange=delivery.exchange if to is None else "",
        routing_key=delivery.routing_key if to is None else to,
        properties=properties,
        body=delivery.body,
    )


def _due(deliveries: Iterable[Delivery], speed: float | None, rate: float | None) -> Iterator[tuple[float, Delivery]]:
    """Say when each is due, in seconds since the first."""
    first: float | None = None
    latest = 0.0
    for index, delivery in enumerate(deliveries):
        first = delivery.received_at if first is None else first
        gap = (delivery.received_at - first) / (speed or 1.0)
        latest = max(latest, gap if rate is None else index / rate)  # a clock may have been set back
        yield latest, delivery


def _where_to(route: tuple[str, str]) -> str:
    return f"exchange {route[0]}, key {route[1]}" if route[0] else f"queue {route[1]}"


def _preview(playlist: Playlist) -> None:
    for route, count in sorted(playlist.routes.items()):
        output.write_line(formats.safe_text(f"{count:>8}  {_where_to(route)}"))
    exits.note(f"{formats.counted(playlist.count, 'message')} would be sent; nothing was")


def _allow(session: Session, playlist: Playlist, *, yes: bool) -> None:
    routes = playlist.routes
    hits = [("messages", f"{count:,} to {_where_to(route)}") for route, count in sorted(routes.items())[:10]]
    name = next(iter(routes))[1] or next(iter(routes))[0]
    does = f"publish {formats.counted(playlist.count, 'message')} again"
    confirm.allow(session.settings, confirm.Change(does=does, name=name, hits=hits, destructive=False), yes=yes)


def _send(sending: Sending, session: Session, form: ReceiptFormat | None, undecided: int) -> int:
    """Send and print the account, whatever the end."""
    try:
        stopped_by = sending.run(output.write_jsonl if form is ReceiptFormat.JSONL else None)
    finally:
        if form is ReceiptFormat.JSON and sending.started:
            output.write_json(sending.operation() | {"undecided": undecided})
        elif form is not ReceiptFormat.JSONL and sending.started:
            output.write_line(formats.safe_text(sending.summary()))
    if stopped_by is not None:
        session.explain(stopped_by)
        hint = f" ({stopped_by.hint})" if stopped_by.hint else ""
        exits.note(f"busctl: not all were confirmed: {stopped_by}{hint}")
        return exits.ExitCode.PARTLY
    return exits.ExitCode.DONE
