"""What commands that change the bus share: an operation in the journal around the change, and its account."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from busctl.cli import output
from busctl.views.formats import counted, safe_text
from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.blast import QueueBlast
    from busctl_lib.journal import Operation

OutputOption = Annotated[
    output.Format | None, typer.Option("-o", "--output", help="How to print the operation.", show_default="table")
]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option("-a", "--argument", metavar="NAME=TEXT", help="An argument; NAME:=JSON for numbers and such."),
]


@contextlib.contextmanager
def operation(
    session: Session,
    kind: str,
    source: str,
    form: output.Format | None,
    *,
    done: str | Callable[[], str],
    target: str | None = None,
    planned: int = 1,
    vhost: str | None = None,
    plan: dict[str, Any] | None = None,
) -> Iterator[Operation]:
    """Keep an operation in the journal while the block makes the change, and print it.

    Args:
        session: Where it happens.
        kind: What it is, as the command is called.
        source: The name of what is changed.
        form: How it is printed; for people it is the sentence `done`.
        done: What is true afterwards, or what tells it then.
        target: A second name, of a binding say.
        planned: How many things it is about.
        vhost: Where it is; the session's vhost by default.
        plan: What it was, for the audit.

    A block that did only a part sets the state `partial`.
    """
    from busctl_lib.journal import Journal, Operation

    made = Operation(
        id=secrets.token_hex(5),
        kind=kind,
        source=source,
        target=target,
        state="running",
        planned=planned,
        vhost=vhost or session.vhost,
        broker=session.cluster,
        plan=plan or {},
    )
    with Journal() as journal:
        journal.begin(made)
        try:
            yield made
        except BaseException as error:
            told = str(error) if isinstance(error, BusError) else type(error).__name__
            journal.set_state(made, "failed" if isinstance(error, Exception) else "interrupted", told)
            raise
        said = done if isinstance(done, str) else done()
        journal.set_state(made, "partial" if made.state == "partial" else "done", said)
    tell(made, said, form)


class Emptied(NamedTuple):
    """What was taken out of a queue."""

    kept: int = 0
    """In the trash."""
    dropped: int = 0
    """Too much for it, or delayed: nobody could take those."""

    def text(self, what: str) -> str:
        """How many messages that happened to, and how many of them are gone for good."""
        count = self.kept + self.dropped
        gone = f"{self.dropped:,} of them " if self.kept else ""
        return f"{counted(count, 'message')}{what}" + (f", {gone}not kept in the trash" if self.dropped else "")


def trash(found: QueueBlast) -> str:
    """The way back of what empties a queue."""
    from busctl_lib.transfers import TRASH_MESSAGES

    delayed = ", but not of the delayed ones" if found.delayed else ""
    if (found.ready or 0) > TRASH_MESSAGES:
        return (
            f"busctl ops undo, for the first {TRASH_MESSAGES:,} messages only: no more are kept in the trash{delayed}"
        )
    return f"busctl ops undo, which takes them out of the trash of this machine{delayed}"


def empty(session: Session, queue: str, made: Operation, found: QueueBlast, *, purge: bool = True) -> Emptied:
    """Take the messages of a queue into the trash, then (purge, or some are delayed) drop what is left of it."""
    from busctl_lib.transfers import empty_into_trash

    if found.type == "stream":
        return Emptied()
    waiting = session.broker.declare_queue(queue, passive=True).message_count  # the API's counts are seconds old
    doubtful = found.type == "quorum"  # of one whose leader does not answer the broker says 0
    taken = empty_into_trash(session.broker, queue, made, waiting) if waiting or doubtful else 0
    unknown = found.type is None and not purge
    purges = found.delays or unknown or (purge and taken < waiting)  # only that tells how many were delayed
    return Emptied(taken, session.broker.purge_queue(queue) if purges else 0)


def definition(session: Session, queue: str) -> dict[str, Any]:
    """What it takes to declare a queue again, for its undo; nothing where the API does not answer."""
    from busctl_lib.transfers import definition_of

    try:
        return {"definition": definition_of(session.management, session.vhost, queue)}
    except BusError:
        return {}


def tell(made: Operation, done: str, form: output.Format | None) -> None:
    """Print an operation that is done."""
    if form in (output.Format.JSON, output.Format.JSONL):
        from busctl.cli.moving import as_json

        output.write_value(as_json(made), form)
    else:
        output.write_line(safe_text(done))
