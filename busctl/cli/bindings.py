"""`busctl bindings`: what leads where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.bindings import BINDINGS

if TYPE_CHECKING:
    from busctl_lib.management import BindingInfo


def bindings(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="GLOB",
            help="A pattern or a name: of the exchange they start at, or of the queue or exchange they lead to.",
        ),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List bindings: from which exchange to what, and with which key."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _names(info: BindingInfo) -> tuple[str | None, ...]:
    """A binding has no name of its own: it is found by its ends, and always shown in a list."""
    return (None, info.source, info.destination)


_LISTING = lists.Listing(view=BINDINGS, singular="binding", fetch=lambda api, vhost: api.bindings(vhost), names=_names)
