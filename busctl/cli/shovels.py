"""`busctl shovels`: what moves messages between queues and brokers."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.shovels import SHOVELS


def shovels(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern, or the name of one shovel."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List shovels: what they move from where to where, and whether they do."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


_LISTING = lists.Listing(view=SHOVELS, singular="shovel", fetch=lambda api, vhost: api.shovels(vhost))
