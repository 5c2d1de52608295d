"""`busctl exchanges`: the list, and one exchange in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl.cli import lists, output
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views import exchange_detail as view
from busctl.views.exchanges import EXCHANGES

if TYPE_CHECKING:
    from busctl_lib.management import ChannelInfo, ExchangeInfo, ManagementClient

_STATS = (
    *("name", "user", "vhost", "message_stats.return_unroutable_details.rate"),
    "message_stats.drop_unroutable_details.rate",
)


def exchanges(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern such as 'obs_*', or the name of one exchange."),
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
    from busctl_lib.topology_map import Place, read

    bindings = api.exchange_bindings(info.vhost, info.name)
    fed_by = read(api, info.vhost).into(Place("exchange", info.name))
    losing = None if info.incoming else _losing(api, info.vhost)
    answer = {
        "bindings": msgspec.to_builtins(bindings),
        "fed_by": [{"way": step.way, **step.source._asdict(), "key": step.key} for step in fed_by],
    }
    lines = view.lines(info, bindings, fed_by, losing)
    return lists.Detail(answer, [(line.label, output.paint(line.text, line.tone)) for line in lines])


def _losing(api: ManagementClient, vhost: str) -> list[ChannelInfo] | None:
    """Channels whose messages find no queue now, where those of others may be seen."""
    if not {"monitoring", "administrator"}.intersection(api.whoami().tag_names):
        return None
    return [info for info in api.channels(vhost, columns=_STATS) if view.loses(info.message_stats)]


_LISTING = lists.Listing(
    view=EXCHANGES,
    singular="exchange",
    fetch=lambda api, vhost: api.exchanges(vhost),
    get=lambda api, vhost, name: api.exchange(vhost, name),
    detail=_detail,
)
