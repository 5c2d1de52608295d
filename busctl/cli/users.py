"""`busctl users`: who may log in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import lists
from busctl.cli.lists import ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.permissions import PERMISSIONS
from busctl.views.users import USERS

if TYPE_CHECKING:
    from busctl_lib.management import AccountInfo, ManagementClient


def users(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="GLOB", help="A pattern, or the name of one user.")] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
) -> None:
    """List users with their tags; an exact name shows what that user may do in which vhost."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where))


def _detail(api: ManagementClient, info: AccountInfo) -> lists.Detail:
    own = PERMISSIONS.sorted([each for each in api.permissions() if each.user == info.name], "vhost")
    lines = lists.fields(USERS.select(wide=True), info)
    for index, each in enumerate(own):
        _, vhost, *patterns = PERMISSIONS.row(each)
        verbs = ("configure", "write", "read")
        may = ", ".join(f"{verb} {cell.text}" for verb, cell in zip(verbs, patterns, strict=True))
        lines.append(("may" if index == 0 else "", f"in vhost {vhost.text}: {may}"))
    answer: dict[str, Any] = {"permissions": msgspec.to_builtins(own)}
    return lists.Detail(answer, lines if own else [*lines, ("may", "nothing: it has no permissions in any vhost")])


_LISTING = lists.Listing(view=USERS, singular="user", fetch=lambda api, _: api.users(), detail=_detail)
