"""`busctl replay`: dead letters go back to where they came from."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl.cli import changing, exits, flags, lists, moving
from busctl.cli.confirm import YesOption
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl_lib.transfers import Plan, Request


class RouteChoice(enum.StrEnum):
    """Where a replayed message goes."""

    ORIGINAL = "original"
    QUEUE = "queue"


_HOW = frozenset({"rate", "canary", "watch_s", "accept_loss", "accept_delay"})


def replay(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue that holds the dead letters.")],
    route: Annotated[
        RouteChoice | None,
        typer.Option("--route", help="To the original exchange and key, or only to the queue it died in."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="QUEUE", help="All to this queue instead.")] = None,
    redirect: Annotated[
        list[str] | None,
        typer.Option("--redirect", metavar="OLD=NEW", help="What died in OLD goes to NEW."),
    ] = None,
    where: moving.WhereOption = None,
    undecided: moving.UndecidedOption = moving.Undecided.LEAVE,
    group: moving.GroupOption = None,
    ids: moving.IdsOption = None,
    limit: moving.LimitOption = None,
    edit: Annotated[
        str | None, typer.Option("--edit", metavar="JQ", help="The new body, from the document: '.body.qty = 1'.")
    ] = None,
    rate: moving.RateOption = None,
    canary: Annotated[
        int | None, typer.Option("--canary", min=1, metavar="N", help="Send N, watch, and go on if none comes back.")
    ] = None,
    watch: Annotated[
        str | None, typer.Option("--watch", metavar="DURATION", help="How long to watch whether messages come back.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="With --dry-run: write the plan there; else: do what it says."),
    ] = None,
    fast: moving.FastOption = False,
    rewrite: moving.RewriteOption = False,
    accept_loss: moving.AcceptLossOption = False,
    accept_delay: moving.AcceptDelayOption = False,
    dry_run: moving.DryRunOption = False,
    yes: YesOption = False,
    form: changing.OutputOption = None,
) -> int:
    """Send dead letters back to where they came from, each to its original exchange and key.

    What no queue takes stays where it is (exit code 8). Nothing is lost when this is killed: `busctl ops resume` goes
    on.
    """
    from busctl_lib.transfers import Request, read_plan

    lists.require_above_0(rate, "--rate")
    if canary is not None and watch is None:
        raise ConfigError("--canary needs --watch: how long to look whether messages come back")
    watch_s = None if watch is None else lists.seconds(watch, "--watch")
    made = read_plan(plan) if plan is not None and not dry_run else None
    request = Request(
        kind="replay",
        source=queue,
        target=to,
        route=route.value if route is not None else None,
        edit=edit,
        redirects=_redirects(redirect or []),
        rate=rate,
        canary=canary,
        watch_s=watch_s,
        fast=fast,
        rewrite=rewrite,
        accept_loss=accept_loss,
        accept_delay=accept_delay,
        **moving.selection(where, undecided, group, ids, limit),
    )
    if made is not None:
        if made.source != queue:
            raise ConfigError(f"the plan {plan} is for {made.source!r}, not for {queue!r}")
        request = _as_planned(made, request)
    with flags.open_session(ctx) as session, moving.opened(session, request) as transfer:
        current = moving.make_plan(transfer, made)
        if dry_run:
            if plan is not None:
                current.write(plan)
                exits.note(f"the plan is in {plan}; do it with: busctl replay {queue} --plan {plan}")
            moving.show_plan(current, form)
            return exits.ExitCode.DONE
        way_back = "none: the messages go to their consumers"
        moving.ask(session, current, yes=yes, way_back=way_back)
        return moving.run(transfer, transfer.running(), form)


def _as_planned(made: Plan, typed: Request) -> Request:
    """What the plan says; how fast and how watched it is done may be typed anew."""
    usual = type(typed)(kind=typed.kind, source=typed.source)
    given = {
        name: getattr(typed, name) for name in typed.__struct_fields__ if getattr(typed, name) != getattr(usual, name)
    }
    for name in given.keys() - _HOW:
        flag = {"target": "to", "redirects": "redirect"}.get(name, name)
        raise ConfigError(
            f"--{flag.replace('_', '-')} and --plan: what is replayed and where to stands in the plan",
            hint="edit `request` in the plan, or make a new one",
        )
    return msgspec.structs.replace(made.request, **given)


def _redirects(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        old, sign, new = each.partition("=")
        if not (old and sign and new):
            raise ConfigError(f"--redirect wants OLD=NEW, found {each!r}")
        found[old] = new
    return found
