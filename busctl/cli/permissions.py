"""`busctl permissions`: who may do what in a vhost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits, lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.permissions import PERMISSIONS
from busctl_lib.errors import ApiForbidden

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient, PermissionInfo


def permissions(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[GLOB]", help="A pattern or a name: of users."),
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


def _listed(api: ManagementClient, vhost: str | None) -> list[PermissionInfo]:
    """Everyone's, or one's own where more is not allowed."""
    try:
        return api.permissions(vhost)
    except ApiForbidden:
        own = api.permissions_of(api.username)
        exits.note(f"these are those of {api.username!r} alone: all need the administrator tag")
        return [info for info in own if vhost is None or info.vhost == vhost]


_LISTING = lists.Listing(view=PERMISSIONS, singular="permission of a user", fetch=_listed, names=_names)
