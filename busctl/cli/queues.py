"""`busctl queues`: the list, and one queue in detail."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from busctl.cli import lists, output
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views import formats
from busctl.views.queues import QUEUES, features, rate_ack, rate_in, rate_out, state
from busctl.views.replicas import trouble

if TYPE_CHECKING:
    from busctl_lib.management import BindingInfo, ConsumerInfo, ManagementClient, QueueInfo

_SPAN_S = 600
_LINE_WIDTH = 30
_COUNTED = {"name", "vhost", "type", "messages_ready", "messages_unacknowledged", "messages", "consumers", "node"}
"""Columns that the list of a large bus fills in; for others all that a list can bring is asked for."""


def queues(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[GLOB]", help="A pattern such as 'obs_*', or the name of one queue.")
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
    at_risk: Annotated[
        bool,
        typer.Option("--at-risk", help="Only quorum queues and streams that lost a member, or may lose no more."),
    ] = False,
) -> None:
    """List queues with their depth, consumers and rates; an exact name shows that queue in detail."""
    asked = lists.Asked(name, form, sort, columns, watch, where, all_vhosts)
    lists.run(ctx, _AT_RISK if at_risk else _QUEUES, asked)


def _at_risk(api: ManagementClient, vhost: str | None) -> list[QueueInfo]:
    """Also the light list of a large bus knows members."""
    from busctl_lib.poller import LIST_WITH_RATES_MAX

    totals = api.overview().object_totals
    few = totals is None or (totals.queues or 0) <= LIST_WITH_RATES_MAX
    listed = api.queues_with_rates(vhost) if few else api.queues(vhost)
    return [info for info in listed if trouble(info) is not None]


def _listed(api: ManagementClient, vhost: str | None, asked: lists.Asked | None = None) -> list[QueueInfo]:
    """All queues, with rates where they are few enough to ask for them without hurting the broker, or asked for."""
    from busctl_lib.management.infos import QUEUE_COUNT_COLUMNS
    from busctl_lib.poller import LIST_WITH_RATES_MAX

    overview = api.overview()
    totals = overview.object_totals
    if totals is None or (totals.queues or 0) <= LIST_WITH_RATES_MAX:
        return api.queues_with_rates(vhost)
    if asked is not None and (asked.looks_at is None or not _COUNTED.issuperset(asked.looks_at)):
        return api.queues_with_rates(vhost)
    counted = api.queues_counted(vhost, overview)
    return counted if counted is not None else api.queues_with_rates(vhost, columns=QUEUE_COUNT_COLUMNS)


def _one(api: ManagementClient, vhost: str, name: str) -> QueueInfo:
    """One queue with its history."""
    from busctl_lib.management import History

    return api.queue(vhost, name, History(age_s=_SPAN_S))


def _detail(api: ManagementClient, info: QueueInfo) -> lists.Detail:
    bindings = api.queue_bindings(info.vhost, info.name)
    return lists.Detail({"bindings": msgspec.to_builtins(bindings)}, _lines(info, bindings))


def _lines(info: QueueInfo, bindings: list[BindingInfo]) -> lists.Lines:
    now = state(info)
    return [
        ("queue", formats.safe_text(info.name)),
        ("vhost", formats.safe_text(info.vhost)),
        ("type", " ".join(part for part in (info.type or formats.UNKNOWN, features(info)) if part)),
        ("node", formats.safe_text(info.leader or info.node or formats.UNKNOWN)),
        ("policy", formats.safe_text(info.policy or "none")),
        ("arguments", formats.safe_text(_plain(info.arguments))),
        ("state", output.paint(formats.safe_text(now.text), now.tone)),
        (
            "messages",
            f"{formats.count(info.messages_ready)} ready, {formats.count(info.messages_unacknowledged)} unacked",
        ),
        ("size", f"{formats.size(info.message_bytes)} of messages, {formats.size(info.memory)} of memory"),
        (
            "rates",
            f"{formats.rate(rate_in(info))}/s in, {formats.rate(rate_out(info))}/s out, "
            f"{formats.rate(rate_ack(info))}/s acknowledged",
        ),
        ("depth", f"{_depth_line(info)} last {formats.duration(_SPAN_S)}"),
        *_consumer_lines(info),
        *_binding_lines(bindings),
    ]


def _depth_line(info: QueueInfo) -> str:
    samples = (info.messages_details.samples if info.messages_details else None) or []
    points = sorted((sample.timestamp / 1000, sample.sample) for sample in samples)
    now = points[-1][0] if points else time.time()
    return formats.sparkline(formats.buckets(points, _LINE_WIDTH, _SPAN_S, now))


def _consumer_lines(info: QueueInfo) -> list[tuple[str, str]]:
    consumers = info.consumer_details or []
    if not consumers:
        return [("consumers", "none")]
    return [("consumers" if first else "", _consumer(consumer)) for first, consumer in _first_marked(consumers)]


def _consumer(consumer: ConsumerInfo) -> str:
    channel = consumer.channel_details
    where = channel.connection_name or channel.name if channel is not None else None
    parts = [
        consumer.consumer_tag,
        f"from {where}" if where else "",
        f"prefetch {consumer.prefetch_count or 'unlimited'}",
        "" if consumer.ack_required else "without acknowledgements",
        "" if consumer.active is not False else "inactive",
    ]
    return formats.safe_text(", ".join(part for part in parts if part))


def _binding_lines(bindings: list[BindingInfo]) -> list[tuple[str, str]]:
    own = [binding for binding in bindings if binding.source]
    if not own:
        return [("bindings", "default exchange only")]
    return [("bindings" if first else "", _binding(binding)) for first, binding in _first_marked(own)]


def _binding(binding: BindingInfo) -> str:
    arguments = f" {_plain(binding.arguments)}" if binding.arguments else ""
    return formats.safe_text(f"{binding.source} with key {binding.routing_key!r}{arguments}")


def _first_marked(items: list[Any]) -> list[tuple[bool, Any]]:
    return [(index == 0, item) for index, item in enumerate(items)]


def _plain(table: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in (table or {}).items()) or "none"


_QUEUES = lists.Listing(view=QUEUES, singular="queue", fetch=_listed, fetch_asked=_listed, get=_one, detail=_detail)
_AT_RISK = lists.Listing(view=QUEUES, singular="queue at risk", fetch=_at_risk, detail=_detail)
