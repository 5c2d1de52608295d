"""What commands that move messages share: the plan on stderr, the question, progress, Ctrl-C, the account."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import confirm, exits, output
from busctl.cli.progress import Progress
from busctl.keyfile import load_keys
from busctl.views.formats import counted, safe_text
from busctl.views.plans import account_lines, plan_lines, progress_line, summary, verb
from busctl_lib.errors import NotFound

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib import transfers
    from busctl_lib.journal import Operation
    from busctl_lib.transfers import Account, Plan, Request, Restore, Transfer

WhereOption = Annotated[
    str | None, typer.Option("--where", metavar="JQ", help="Only messages whose document makes this true.")
]


class Undecided(enum.StrEnum):
    """What becomes of messages that --where cannot decide."""

    LEAVE = "leave"
    TAKE = "take"


UndecidedOption = Annotated[
    Undecided,
    typer.Option("--undecided", help="Messages that --where cannot decide, since their body could not be read."),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="ID", help="Only this group of `busctl dead QUEUE`.")
]
IdsOption = Annotated[
    str | None, typer.Option("--ids", metavar="A,B", help="Only messages with these message ids, or identities.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest.")]
RateOption = Annotated[float | None, typer.Option("--rate", metavar="PER_S", help="At most so many a second.")]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Confirms instead of transactions: after a kill the open batch is unknown.")
]
RewriteOption = Annotated[
    bool, typer.Option("--rewrite", help="Write what does not match anew instead of holding it (quorum queues).")
]
AcceptLossOption = Annotated[
    bool,
    typer.Option("--accept-loss", help="Go on where messages may be lost: the peek budget is gone, a target is full."),
]
AcceptDelayOption = Annotated[
    bool,
    typer.Option(
        "--accept-delay", help="Go on where delayed retry (RabbitMQ 4.3) hides for a while what is looked at and stays."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Make the plan, show it, and stop.")]


def selection(
    where: str | None, undecided: Undecided, group: str | None, ids: str | None, limit: int | None
) -> dict[str, Any]:
    """The part of a request that says which messages."""
    given = [each.strip() for each in (ids or "").split(",") if each.strip()]
    return {"where": where, "undecided": undecided.value, "group": group, "ids": given, "limit": limit}


def accepted(loss: bool, delay: bool) -> dict[str, bool]:
    """The part of a request that says what may happen all the same."""
    return {"accept_loss": loss, "accept_delay": delay}


@contextlib.contextmanager
def opened(session: Session, request: Request, **extra: Any) -> Iterator[Transfer]:
    """A transfer of the session's broker, in this user's journal."""
    from busctl_lib.journal import Journal
    from busctl_lib.transfers import Transfer

    session.broker.connect()
    extra["keys"] = load_keys() if request.where or request.edit else None
    try:
        with Journal() as journal, Transfer(session.broker, session.management, journal, request, **extra) as transfer:
            yield transfer
    except NotFound as error:
        error.hint = error.hint or "`busctl queues` lists what there is"
        raise


def make_plan(transfer: Transfer | Restore, made: Plan | None = None) -> Plan:
    """Read the queue, with progress on a terminal."""
    with Progress() as line, stopping(transfer):
        for progress in transfer.planning(made):
            line.show(f"reading {transfer.request.source}: {progress.moved:,} of {progress.planned:,}")
    assert transfer.plan is not None
    return transfer.plan


def show_plan(plan: Plan, form: output.Format | None) -> None:
    """Print a plan: JSON for programs, lines for people."""
    if form in (output.Format.JSON, output.Format.JSONL):
        output.write_value(plan, form)
        return
    for label, text in plan_lines(plan):
        output.write_line(f"{label:<9} {safe_text(text)}")


def ask(session: Session, plan: Plan, *, yes: bool, way_back: str | None) -> None:
    """Show what would happen and ask. Raises GuardRefused."""
    plan.require_safe()
    change = confirm.Change(
        does=f"{verb(plan.request.kind)} {counted(plan.selected, 'message')} of {plan.source}",
        name=plan.source,
        hits=plan_lines(plan)[1:],
        way_back=way_back,
    )
    confirm.allow(session.settings, change, yes=yes)


def run(transfer: Transfer | Restore, steps: Iterator[transfers.Progress], form: output.Format | None) -> int:
    """Run it to its account, print that, and give the exit code."""
    with Progress() as line, stopping(transfer):
        waited: str | None = None
        for progress in steps:
            if progress.waiting and progress.waiting != waited:
                exits.note(f"waiting: {progress.waiting}")
            waited = progress.waiting
            line.show(progress_line(progress))
    account = transfer.account
    assert account is not None
    tell(account, form)
    return exit_code(account)


def tell(account: Account, form: output.Format | None) -> None:
    """Print how it ended."""
    operation = account.operation
    if form in (output.Format.JSON, output.Format.JSONL):
        found = as_json(operation)
        found |= {name: value for name in ("reasons", "gone", "problem") if (value := getattr(account, name))}
        if account.came_back is not None:  # an empty list says that somebody watched
            found["came_back"] = msgspec.to_builtins(account.came_back)
        output.write_value(found, form)
    else:
        output.write_line(safe_text(summary(operation)))
        for said in account_lines(account):
            output.write_line(safe_text(f"  {said}"))
    if account.problem:
        exits.note(f"busctl: {account.problem}")
    if operation.state == "interrupted" or operation.unknown:
        again = " --unknown resend|skip" if operation.unknown else ""
        exits.note(f"go on with: busctl ops resume {operation.id}{again}")


def as_json(operation: Operation) -> dict[str, Any]:
    """An operation as its contract has it."""
    found: dict[str, Any] = msgspec.to_builtins(operation)
    found.pop("plan", None)
    counts = ("planned", "moved", "returned", "failed", "unknown", "undecided")
    for name in ("target", *counts, "started_at", "ended_at"):
        found.setdefault(name, getattr(operation, name))
    found.setdefault("state", operation.state)
    return found


def exit_code(account: Account) -> int:
    """0 all done, 130 interrupted, 8 partly."""
    operation = account.operation
    if account.problem is None and operation.state == "interrupted":
        return exits.ExitCode.INTERRUPTED
    whole = operation.state == "done" and not (operation.returned or operation.failed or operation.unknown)
    return exits.ExitCode.DONE if whole else exits.ExitCode.PARTLY


@contextlib.contextmanager
def stopping(transfer: Transfer | Restore) -> Iterator[None]:
    """Let Ctrl-C end the transfer with an account; once more ends it without waiting."""
    hits = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal hits
        hits += 1
        if hits > 1 or transfer.engine is None:
            raise KeyboardInterrupt
        exits.note("stopping after the batch under way; again to leave at once")
        transfer.stop("interrupted")

    with exits.signals_to(stop):
        yield
