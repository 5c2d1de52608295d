"""`busctl move`, `copy`, `park` and `discard`: messages of one queue, exactly as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import changing, exits, flags, lists, moving
from busctl.cli.confirm import YesOption
from busctl.views.plans import parking
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl.cli import output

SourceArgument = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue whose messages are meant.")]
TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help="The queue that gets them.")]


def move(
    ctx: typer.Context,
    source: SourceArgument,
    target: TargetArgument,
    where: moving.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    group: moving.GroupOption = None,
    ids: moving.IdsOption = None,
    limit: moving.LimitOption = None,
    rate: moving.RateOption = None,
    fast: moving.FastOption = False,
    rewrite: moving.RewriteOption = False,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Move messages from one queue to another; nothing of them changes but their route."""
    chosen = moving.selection(where, undecided, group, ids, limit)
    facts = {
        "rate": rate,
        "fast": fast,
        "rewrite": rewrite,
        "accept_loss": accept_loss,
        "accept_delay": accept_delay,
        **chosen,
    }
    return _transfer(ctx, "move", source, target, facts, dry_run=dry_run, yes=yes, form=form)


def copy(
    ctx: typer.Context,
    source: SourceArgument,
    target: TargetArgument,
    where: moving.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    group: moving.GroupOption = None,
    ids: moving.IdsOption = None,
    limit: moving.LimitOption = None,
    rate: moving.RateOption = None,
    fast: moving.FastOption = False,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Copy messages of one queue to another; the originals stay where they are."""
    chosen = moving.selection(where, undecided, group, ids, limit)
    facts = {"rate": rate, "fast": fast, **moving.accepted(accept_loss, accept_delay), **chosen}
    return _transfer(ctx, "copy", source, target, facts, dry_run=dry_run, yes=yes, form=form)


def park(
    ctx: typer.Context,
    source: SourceArgument,
    to: Annotated[
        str | None, typer.Option("--to", metavar="QUEUE", help="Where; QUEUE.parked by default.", show_default=False)
    ] = None,
    where: moving.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    group: moving.GroupOption = None,
    ids: moving.IdsOption = None,
    limit: moving.LimitOption = None,
    rate: moving.RateOption = None,
    fast: moving.FastOption = False,
    rewrite: moving.RewriteOption = False,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Put messages aside, into a queue that is declared for it where it is not there."""
    chosen = moving.selection(where, undecided, group, ids, limit)
    facts = {
        "rate": rate,
        "fast": fast,
        "rewrite": rewrite,
        "accept_loss": accept_loss,
        "accept_delay": accept_delay,
        **chosen,
    }
    target = to or parking(source)
    return _transfer(ctx, "park", source, target, facts, dry_run=dry_run, yes=yes, form=form)


def discard(
    ctx: typer.Context,
    source: SourceArgument,
    where: moving.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    group: moving.GroupOption = None,
    ids: moving.IdsOption = None,
    limit: moving.LimitOption = None,
    rate: moving.RateOption = None,
    rewrite: moving.RewriteOption = False,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Throw messages away, into the trash of this machine; `busctl ops undo` puts them back."""
    chosen = moving.selection(where, undecided, group, ids, limit)
    facts = {"rate": rate, "rewrite": rewrite, **moving.accepted(accept_loss, accept_delay), **chosen}
    return _transfer(ctx, "discard", source, None, facts, dry_run=dry_run, yes=yes, form=form)


def _transfer(
    ctx: typer.Context,
    kind: Any,
    source: str,
    target: str | None,
    facts: dict[str, Any],
    *,
    dry_run: bool,
    yes: bool,
    form: output.Format | None,
) -> int:
    from busctl_lib.transfers import Request

    lists.require_above_0(facts["rate"], "--rate")
    if source == target:
        raise ConfigError("the source and the target are one queue")
    request = Request(kind=kind, source=source, target=target, **facts)
    with flags.open_session(ctx) as session, moving.opened(session, request) as transfer:
        plan = moving.make_plan(transfer)
        if dry_run:
            moving.show_plan(plan, form)
            return exits.ExitCode.DONE
        moving.ask(session, plan, yes=yes, way_back=f"busctl ops undo {transfer.operation.id}")
        return moving.run(transfer, transfer.running(), form)
