"""One exchange in labelled lines: what comes in and from whom, where it leads, and what found no queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.exchanges import EXCHANGES, alternate, rate_dropped, rate_in, rate_out, rate_returned, shown_name
from busctl.views.lines import Line, labelled
from busctl.views.view import Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from busctl_lib.management.infos import BindingInfo, ChannelInfo, ExchangeInfo, MessageStats, PublisherInfo
    from busctl_lib.topology_map import Step

_MOST = 10


def lines(
    info: ExchangeInfo, bindings: Sequence[BindingInfo], fed_by: Sequence[Step], losing: Sequence[ChannelInfo] | None
) -> list[Line]:
    """Show all of an exchange.

    Args:
        info: It, with `incoming` where the broker counts in detail.
        bindings: Those that start at it.
        fed_by: What leads to it.
        losing: Channels of its vhost whose messages find no queue now; None is not known.
    """
    cells = [(column, column.cell(info)) for column in EXCHANGES.select(wide=True)]
    found = [
        Line(column.name, cell.text, cell.tone) for column, cell in cells if column.name not in ("returned", "dropped")
    ]
    return [
        *found,
        *labelled("unroutable", _unroutable(info, losing)),
        *labelled("leads to", [Line("", leading(each)) for each in bindings]),
        *labelled("fed by", [Line("", feeding(each)) for each in fed_by]),
    ]


def _unroutable(info: ExchangeInfo, losing: Sequence[ChannelInfo] | None) -> list[Line]:
    if info.incoming:
        total = f"{formats.rate(rate_returned(info))}/s returned, {formats.rate(rate_dropped(info))}/s dropped"
        found = [Line("", total, Tone.BAD if rate_dropped(info) else Tone.NORMAL)]
        return found + [Line("", _publisher(each)) for each in info.incoming[:_MOST] if loses(each.stats)]
    if not rate_in(info):
        return [Line("", "nothing is published to it now, as far as the broker tells")]
    if not rate_out(info) and alternate(info) is None:
        return [Line("", f"all of the {formats.rate(rate_in(info))}/s that come in: nothing is routed on", Tone.BAD)]
    if losing is None:
        return [Line("", "not known: the channels of others need the monitoring tag")]
    if not losing:
        return [Line("", "nothing now, from any channel of this vhost")]
    told = [
        Line("", "from which exchange is not told: the broker counts by channel, unless its rates_mode is detailed")
    ]
    return told + [Line("", _channel(each)) for each in losing[:_MOST]]


def loses(stats: MessageStats | None) -> bool:
    """Whether some of what is published finds no queue now."""
    return any(columns.rate_of(stats, name) for name in ("return_unroutable", "drop_unroutable"))


def _rates(stats: MessageStats | None) -> str:
    returned, dropped = (columns.rate_of(stats, name) for name in ("return_unroutable", "drop_unroutable"))
    return f"{formats.rate(returned or 0)}/s returned, {formats.rate(dropped or 0)}/s dropped"


def _publisher(info: PublisherInfo) -> str:
    where = info.channel_details.name if info.channel_details is not None else None
    return formats.safe_text(f"{_rates(info.stats)} from channel {where or formats.UNKNOWN}")


def _channel(info: ChannelInfo) -> str:
    return formats.safe_text(f"{_rates(info.message_stats)} from channel {info.name} of {info.user or formats.UNKNOWN}")


def leading(info: BindingInfo) -> str:
    """Say where a binding leads."""
    arguments = f" {columns.table(info.arguments)}" if info.arguments else ""
    text = f"{info.destination_type} {info.destination} with key {info.routing_key!r}{arguments}"
    return formats.safe_text(text)


def feeding(step: Step) -> str:
    """Say what leads to an exchange."""
    if step.way == "alternate":
        return f"what exchange {shown_name(step.source.name)} cannot route"
    if step.way == "dead-letter":
        key = f"key {step.key!r}" if step.key is not None else "their own key"
        return formats.safe_text(f"dead letters of queue {step.source.name} with {key}")
    return f"exchange {shown_name(step.source.name)} with key {formats.safe_text(repr(step.key or ''))}"
