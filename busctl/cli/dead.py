"""`busctl dead`: the queues of dead letters; of one, its groups by cause; of a group, its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, flags, output
from busctl.cli.lists import OutputOption
from busctl.cli.moving import AcceptDelayOption
from busctl.views.dead import DEAD_QUEUES, GROUPS, told
from busctl.views.formats import counted, safe_text
from busctl_lib.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.deadletters import Triage
    from busctl_lib.envelope import Delivery

_TOLD = ("id", "cause", "queue", "count", "first_seen", "last_seen", "replayed")
"""The columns of a table of groups: few, so that the cause has room."""
_UNREAD_SHOWN = 5


def dead(
    ctx: typer.Context,
    queue: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="Whose dead letters to group by cause.", show_default=False)
    ] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="ID", help="Show the messages of this group.")] = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Look at so many messages, the first ones.")] = 5_000,
    content: Annotated[
        bool, typer.Option("--content", help="Look into queues that nobody consumes, one message each.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Look also where that may drop or dead-letter a message.")
    ] = False,
    accept_delay: AcceptDelayOption = False,
    form: OutputOption = None,
) -> None:
    """Find the queues that hold dead letters; of one queue, tell why its messages died.

    Reading a queue's messages marks them redelivered and is within its peek budget (exit code 9).
    """
    if queue is None and group is not None:
        raise ConfigError("--group is of one queue: name it")
    with flags.open_session(ctx) as session:
        if queue is None:
            _list_queues(session, form, content=content)
            return
        _show_queue(session, queue, group, sample, form, accept_loss=accept_loss, accept_delay=accept_delay)


def _list_queues(session: Session, form: output.Format | None, *, content: bool) -> None:
    from busctl_lib.deadletters import dead_letter_queues

    broker = session.broker.connect() if content else None
    unread: dict[str, str] = {}
    found = dead_letter_queues(session.management, session.vhost, look_into=broker, unread=unread)
    output.write_list(DEAD_QUEUES, found, form or output.Format.TABLE)
    if form not in (None, output.Format.TABLE):
        return
    for info in found:
        if info.away is not None:
            exits.note(f"{info.name}: what is in it is not known: {info.away}")
    if not found:
        exits.note(f"no dead-letter queues in vhost {session.vhost!r}")
    for queue, why in list(unread.items())[:_UNREAD_SHOWN]:
        exits.note(f"{queue} was not looked into: {why}")
    if len(unread) > _UNREAD_SHOWN:
        exits.note(f"nor were {len(unread) - _UNREAD_SHOWN:,} more")


def _show_queue(
    session: Session,
    queue: str,
    group: str | None,
    sample: int,
    form: output.Format | None,
    *,
    accept_loss: bool,
    accept_delay: bool,
) -> None:
    from busctl_lib.deadletters import triage

    session.broker.connect()
    try:
        found, messages = triage(
            session.broker,
            session.management,
            session.vhost,
            queue,
            sample=sample,
            accept_loss=accept_loss,
            accept_delay=accept_delay,
        )
    except NotFound as error:
        error.hint = error.hint or session.hint_for_queue(queue)
        raise
    if group is not None:
        _show_messages(found, messages, group, form)
    elif form in (output.Format.JSON, output.Format.JSONL):
        output.write_value(told(found), form)
    else:
        columns = None if form is output.Format.TSV else GROUPS.select(_TOLD)
        output.write_list(GROUPS, found.groups, form or output.Format.TABLE, columns)
        if not found.groups:
            exits.note(f"{queue} holds no dead letters")
            return
        if output.is_terminal():
            exits.note(f"--group ID shows the messages of one; `busctl replay {queue} --group ID` sends them back")
    exits.note(f"{queue}: {found.sample} read; {found.looking}")


def _show_messages(found: Triage, messages: list[Delivery], group: str, form: output.Format | None) -> None:
    from busctl.views import messages as views
    from busctl_lib.documents import to_json

    meant = [each for each in found.groups if each.id.startswith(group)]
    if len(meant) != 1:
        what = "no group" if not meant else "more than one group"
        raise ConfigError(f"{what} {group!r} in {found.queue}", hint=f"`busctl dead {found.queue}` lists them")
    chosen = found.of(meant[0], messages)
    if form in (output.Format.JSON, output.Format.JSONL):
        lines = [to_json(each) for each in chosen]
        if form is output.Format.JSON:
            output.write_json_text(b"[" + b",\n".join(lines) + b"]\n")
        else:
            output.write_json_text(b"".join(line + b"\n" for line in lines))
        return
    output.write_line(safe_text(f"{meant[0].cause} ({counted(len(chosen), 'message')})"))
    for each in chosen:
        row = views.row(each)
        name = safe_text(each.properties.message_id or "")
        output.write_line(f"{row.time}  {row.key}  {row.size}  {name}  {row.body}".rstrip())
