"""`busctl purge`: drop what waits in a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import changing, confirm, flags
from busctl.cli.changing import OutputOption
from busctl.cli.confirm import YesOption
from busctl_lib.errors import ApiError, ConfigError, GuardRefused, NotFound


def purge(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue to empty.")],
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Drop the messages that wait in a queue; those that consumers hold stay theirs."""
    from busctl.views import blast as words
    from busctl_lib import blast

    with flags.open_session(ctx) as session:
        session.broker.guard_change(f"purging queue {queue!r}")
        session.broker.connect()
        try:
            found = blast.of_queue(session.management, session.vhost, queue, deleting=False)
        except NotFound as error:
            error.hint = session.hint_for_queue(queue)
            raise
        except ApiError:  # AMQP knows as much as it takes
            answer = session.broker.declare_queue(queue, passive=True)
            found = blast.QueueBlast(queue=queue, ready=answer.message_count)
        if found.type == "stream":
            raise ConfigError(f"{queue!r} is a stream: it cannot be purged", hint="it forgets by its max-age or size")
        if found.ends_with_us is not None:
            raise GuardRefused(found.ends_with_us, hint=f"busctl delete queue {queue}, if it may go", queue=queue)
        confirm.allow(
            session.settings,
            confirm.Change(
                does=f"purge queue {queue!r}", name=queue, hits=words.purge(found), way_back=changing.trash(found)
            ),
            yes=yes,
        )
        planned, emptied = (found.ready or 0) + (found.delayed or 0), changing.Emptied()

        def done() -> str:
            return f"{queue}: {emptied.text(' dropped')}"

        with changing.operation(session, "purge", queue, form, done=done, planned=planned) as made:
            emptied = changing.empty(session, queue, made, found)
            made.moved = made.planned = sum(emptied)
