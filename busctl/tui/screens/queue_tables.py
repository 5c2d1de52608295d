"""The small tables of one queue: its consumers, its bindings, its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views.bindings import BINDINGS
from busctl.views.consumers import timeout
from busctl.views.formats import safe_text
from busctl.views.takers import FULL, TAKERS, Taker
from busctl.views.view import Column, Tone, View
from busctl_lib.management.infos import BindingInfo, ChannelInfo, ConsumerInfo, QueueInfo

ASKING = "asking the broker …"


class Setting(NamedTuple):
    """One argument of a queue."""

    name: str
    value: str
    source: str


SETTINGS: View[Setting] = View(
    noun="arguments",
    sort="name",
    columns=(
        Column(name="name", title="ARGUMENT", value=lambda found: found.name, text=lambda found: safe_text(found.name)),
        Column(name="value", title="VALUE", value=lambda found: found.value, text=lambda found: safe_text(found.value)),
        Column(
            name="source",
            title="BY",
            value=lambda found: found.source,
            text=lambda found: safe_text(found.source),
            tone=lambda _: Tone.MUTED,
        ),
    ),
)


def settings_of(info: QueueInfo) -> list[Setting]:
    """What a queue was declared with, and what policies add."""
    policy = safe_text(info.policy or info.operator_policy or "policy")
    return [
        *_settings(info.arguments or {}, "declared"),
        *_settings(info.effective_policy_definition or {}, f"policy {policy}"),
    ]


def _settings(table: Mapping[str, Any], source: str) -> list[Setting]:
    return [
        Setting(name, value if isinstance(value, str) else msgspec.json.encode(value).decode(), source)
        for name, value in sorted(table.items())
    ]


def consumers_table() -> LiveTable[Taker]:
    """Who takes the queue's messages."""
    column = TAKERS.column
    slots = [
        Slot(column=column("tag"), least=10, most=40, rank=0),
        Slot(column=column("holds"), least=20, most=26, rank=1),
        Slot(column=column("mode"), least=6, most=24, rank=4),
        Slot(column=column("timeout"), least=8, most=8, rank=3),
        Slot(column=column("connection"), least=14, most=60, rank=2),
    ]
    return LiveTable(TAKERS, slots, key=_consumer_key, sort="tag", empty=ASKING, id="queue-consumers")


def takers(
    info: QueueInfo, channels: Mapping[str, ChannelInfo], release: tuple[int, ...] | None = None
) -> list[Taker] | None:
    """The queue's consumers with their channels; None while they are not known."""
    if info.consumer_details is None:
        return None
    return [
        Taker(each, channels.get(channel_of(each) or ""), timeout(each, info.type, release))
        for each in info.consumer_details
    ]


def channel_of(info: ConsumerInfo) -> str | None:
    """The name of the channel it lives on."""
    return info.channel_details.name if info.channel_details else None


def bindings_table() -> LiveTable[BindingInfo]:
    """What leads to the queue."""
    slots = [
        Slot(column=BINDINGS.column("source"), least=14, most=40, rank=0),
        Slot(column=BINDINGS.column("key"), least=8, most=60, rank=1),
    ]
    return LiveTable(
        BINDINGS,
        slots,
        key=lambda info: (info.source, info.properties_key),
        sort="source",
        empty=ASKING,
        id="queue-bindings",
    )


def arguments_table() -> LiveTable[Setting]:
    """How the queue was declared, and what policies add."""
    slots = [
        Slot(column=SETTINGS.column("name"), least=16, most=40, rank=1),
        Slot(column=SETTINGS.column("value"), least=8, most=40, rank=0),
        Slot(column=SETTINGS.column("source"), least=8, most=24, rank=2),
    ]
    return LiveTable(
        SETTINGS, slots, key=lambda found: found, sort="name", empty=ASKING, opens=False, id="queue-arguments"
    )


def saturation(info: QueueInfo) -> str:
    """Say how much of what its consumers may hold they do hold: all of it means that they are the bottleneck."""
    limits = [consumer.prefetch_count or 0 for consumer in info.consumer_details or ()]
    held = info.messages_unacknowledged
    if not limits or not all(limits) or held is None:
        return ""
    share = held / sum(limits)
    return f", hold {held:,} of {sum(limits):,}{' ▲ saturated' if share >= FULL else ''}"


def dead_letters_to(info: QueueInfo) -> str | None:
    """Where its dead letters go: an exchange, with the key they get there; None: nowhere."""
    arguments = {**(info.effective_policy_definition or {}), **_plain(info.arguments or {})}
    exchange = arguments.get("dead-letter-exchange")
    if not isinstance(exchange, str):
        return None
    key = arguments.get("dead-letter-routing-key")
    if exchange == "" and isinstance(key, str):
        return safe_text(key)
    return safe_text(f"exchange {exchange or '(default)'}" + (f", key {key}" if isinstance(key, str) else ""))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names that policies use."""
    return {name.removeprefix("x-"): value for name, value in arguments.items()}


def _consumer_key(taker: Taker) -> tuple[str, str | None]:
    """A tag is unique on its channel only."""
    return (taker.consumer.consumer_tag, channel_of(taker.consumer))
