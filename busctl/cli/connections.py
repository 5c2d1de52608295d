"""`busctl connections`: who is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.connections import CONNECTIONS, client, peer

if TYPE_CHECKING:
    from busctl_lib.management import ConnectionInfo


def connections(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="GLOB", help="A pattern or a name: of the connection, its client, its user or its peer."
        ),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List client connections: who, from where, how much, and whom the broker holds back."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _names(info: ConnectionInfo) -> tuple[str | None, ...]:
    return (info.name, client(info), info.user, peer(info))


_LISTING = lists.Listing(
    view=CONNECTIONS, singular="connection", fetch=lambda api, vhost: api.connections(vhost), names=_names
)
