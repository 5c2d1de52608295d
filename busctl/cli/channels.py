"""`busctl channels`: who works on which channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.channels import CHANNELS

if TYPE_CHECKING:
    from busctl_lib.management import ChannelInfo


def channels(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern or a name: of the channel, its connection or its user."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List channels: who holds unacknowledged messages, waits for confirms, or is slowed down."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _names(info: ChannelInfo) -> tuple[str | None, ...]:
    connection = info.connection_details.name if info.connection_details is not None else None
    return (info.name, connection, info.user)


_LISTING = lists.Listing(view=CHANNELS, singular="channel", fetch=lambda api, vhost: api.channels(vhost), names=_names)
