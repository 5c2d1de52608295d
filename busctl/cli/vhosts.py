"""`busctl vhosts`: the virtual hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.vhosts import VHOSTS


def vhosts(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern, or the name of one virtual host."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
) -> None:
    """List virtual hosts: what waits in each, and whether it is being traced."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where))


_LISTING = lists.Listing(view=VHOSTS, singular="vhost", fetch=lambda api, _: api.vhosts())
