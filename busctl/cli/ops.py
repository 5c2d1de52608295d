"""`busctl ops`: the journal of what was changed; going on, undoing, exporting."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from busctl.cli import changing, exits, flags, moving, output
from busctl.cli.confirm import YesOption
from busctl.keyfile import load_keys
from busctl.views.formats import safe_text
from busctl.views.operations import OPERATIONS
from busctl.views.plans import summary

if TYPE_CHECKING:
    from busctl.session import Session

_SHOW = "show"
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The operation, or the beginning of its id.")]
_SHOWN_OUTCOMES = 20


class UnknownChoice(enum.StrEnum):
    """What becomes of messages of unknown outcome."""

    RESEND = "resend"
    SKIP = "skip"


class _OpsGroup(TyperGroup):
    """`ops ID` is `ops show ID`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take what is no command for an id."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [_SHOW, *args]
        return super().resolve_command(ctx, args)


ops = typer.Typer(
    cls=_OpsGroup,
    add_completion=False,
    invoke_without_command=True,
    subcommand_metavar="[ID] | resume ID | undo ID | export ID",
    help="List what busctl changed; `ops ID` shows one; resume, undo or export it.",
)


@ops.callback()
def list_operations(
    ctx: typer.Context,
    form: changing.OutputOption = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="The newest so many.")] = 50,
) -> None:
    """List what busctl changed, the newest first."""
    if ctx.invoked_subcommand is not None:
        return
    from busctl_lib.journal import Journal

    with Journal() as journal:
        found = journal.operations(limit)
    if form in (output.Format.JSON, output.Format.JSONL):
        if form is output.Format.JSON:
            output.write_json([moving.as_json(each) for each in found])
        else:
            for each in found:
                output.write_jsonl(moving.as_json(each))
        return
    output.write_list(OPERATIONS, found, form or output.Format.TABLE)
    if not found:
        exits.note("the journal is empty")


@ops.command(_SHOW, hidden=True)
def show(ctx: typer.Context, id: IdArgument, form: changing.OutputOption = None) -> None:  # noqa: A002
    """Show one operation."""
    from busctl_lib.journal import Journal

    with Journal() as journal:
        found = journal.operation(id)
        if form in (output.Format.JSON, output.Format.JSONL):
            output.write_value({**moving.as_json(found), "plan": found.plan}, form)
            return
        output.write_line(safe_text(summary(found)))
        for column in OPERATIONS.select(wide=True):
            if column.value(found) not in (None, ""):
                output.write_line(f"  {column.name:<11} {column.text(found)}")
        for number, line in enumerate(journal.lines(found.id, "returned", "failed", "unknown")):
            if number == _SHOWN_OUTCOMES:
                output.write_line("  ...")
                break
            what = line.message_id or line.identity[:12]
            output.write_line(safe_text(f"  {line.outcome} {what}: {line.reason or ''}"))


@ops.command()
def export(ctx: typer.Context, id: IdArgument) -> None:  # noqa: A002
    """Print the audit of an operation as JSON lines: the operation, then a line a message."""
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import audit

    with Journal() as journal:
        for line in audit(journal, journal.operation(id).id):
            output.write_json_text(line)


@ops.command()
def resume(
    ctx: typer.Context,
    id: IdArgument,  # noqa: A002
    unknown: Annotated[
        UnknownChoice | None,
        typer.Option("--unknown", help="Send messages of unknown outcome again (they may be doubled), or leave them."),
    ] = None,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Go on with an operation that was interrupted."""
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import Transfer

    with flags.open_session(ctx) as session, Journal() as journal:
        _require_writable(session, "resume an operation")
        session.broker.connect()
        transfer = Transfer.resume(
            session.broker,
            session.management,
            journal,
            id,
            accept_loss=accept_loss,
            accept_delay=accept_delay,
            keys=load_keys(),
        )
        with transfer:
            return moving.run(transfer, transfer.resuming(unknown.value if unknown is not None else None), form)


@ops.command()
def undo(
    ctx: typer.Context,
    id: IdArgument,  # noqa: A002
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Put back what an operation moved or took away."""
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import mark_undone, undo_of

    with flags.open_session(ctx) as session, Journal() as journal:
        session.broker.connect()
        with undo_of(session.broker, session.management, journal, id) as transfer:
            transfer.request.accept_loss, transfer.request.accept_delay = accept_loss, accept_delay
            plan = moving.make_plan(transfer)
            if dry_run:
                moving.show_plan(plan, form)
                return exits.ExitCode.DONE
            moving.ask(session, plan, yes=yes, way_back="do the operation again")
            code = moving.run(transfer, transfer.running(), form)
            if transfer.account is not None:
                mark_undone(journal, transfer.account)
            return code


def _require_writable(session: Session, does: str) -> None:
    if session.settings.read_only:
        from busctl.cli.confirm import refused_by_read_only

        raise refused_by_read_only(session.settings, does)
