"""`busctl federation`: links to other brokers that feed exchanges and queues here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.federation import FEDERATION

if TYPE_CHECKING:
    from busctl_lib.management import FederationLinkInfo


def federation(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern or a name: of the exchange or queue, or of the upstream."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List federation links: what is fed from where, and whether it is."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _names(info: FederationLinkInfo) -> tuple[str | None, ...]:
    """Several upstreams may feed one exchange: links are always shown in a list."""
    return (None, info.name, info.upstream, info.id)


_LISTING = lists.Listing(
    view=FEDERATION, singular="federation link", fetch=lambda api, vhost: api.federation_links(vhost), names=_names
)
