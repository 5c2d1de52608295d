"""`busctl policies`: what is set for queues and exchanges by their names."""

from __future__ import annotations

from typing import Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption
from busctl.views.policies import POLICIES


def policies(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[GLOB]", help="A pattern, or the name of one policy.")] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List policies: which names they match, and what they set."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, all_vhosts))


_LISTING = lists.Listing(view=POLICIES, singular="policy", fetch=lambda api, vhost: api.policies(vhost))
