"""`busctl permissions`: who may do what in a vhost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.permissions import PERMISSIONS

if TYPE_CHECKING:
    from busctl_lib.management import PermissionInfo


def permissions(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern or a name: of users."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List permissions: which names each user may declare, write to and read from."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _names(info: PermissionInfo) -> tuple[str | None, ...]:
    """A permission has no name of its own: it is found by its user, and always shown in a list."""
    return (None, info.user)


_LISTING = lists.Listing(
    view=PERMISSIONS, singular="permission of a user", fetch=lambda api, vhost: api.permissions(vhost), names=_names
)
