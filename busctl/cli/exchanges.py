"""`busctl exchanges`: the list, and one exchange in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.columns import table
from busctl.views.exchanges import EXCHANGES
from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl_lib.management import ExchangeInfo, ManagementClient


def exchanges(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[GLOB]", help="A pattern such as 'obs_*', or the name of one exchange."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List exchanges with their type, rates and features; an exact name shows that exchange in detail."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _detail(api: ManagementClient, info: ExchangeInfo) -> lists.Detail:
    bindings = api.exchange_bindings(info.vhost, info.name)
    lines = lists.fields(EXCHANGES.select(wide=True), info)
    for index, binding in enumerate(bindings):
        arguments = f" {table(binding.arguments)}" if binding.arguments else ""
        text = f"{binding.destination_type} {binding.destination} with key {binding.routing_key!r}{arguments}"
        lines.append(("leads to" if index == 0 else "", safe_text(text)))
    return lists.Detail({"bindings": msgspec.to_builtins(bindings)}, lines)


_LISTING = lists.Listing(
    view=EXCHANGES,
    singular="exchange",
    fetch=lambda api, vhost: api.exchanges(vhost),
    get=lambda api, vhost, name: api.exchange(vhost, name),
    detail=_detail,
)
