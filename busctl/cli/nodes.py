"""`busctl nodes`: the nodes of the cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.nodes import NODES


def nodes(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="GLOB", help="A pattern, or the name of one node.")] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
) -> None:
    """List the nodes of the cluster: memory, disk, and what is wrong with each."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where))


_LISTING = lists.Listing(view=NODES, singular="node", fetch=lambda api, _: api.nodes())
