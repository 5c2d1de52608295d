"""What a plan of a tap says: the way, what it will see and what it cannot, and the ways that were not taken."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from busctl_lib.management import BindingInfo
from busctl_lib.taps.foundations import Foundation
from busctl_lib.taps.foundations import Way as Way

WAYS: tuple[Way, ...] = get_args(Way)
Narrow = Literal["no", "equal", "pattern"]
TAP_PREFIX = "busctl.tap."
"""How the queues of all taps are named."""

COPY_COSTS = "one exclusive queue with a bounded length, gone with the tap"
WAITING = "messages that wait in the queue already"


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """A binding that a copy queue takes over."""

    exchange: str
    routing_key: str
    arguments: dict[str, Any]


class RefusedWay(msgspec.Struct, frozen=True, kw_only=True):
    """A way that was not taken, and why."""

    way: str
    reason: str


class TapPlan(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a tap will see messages. `misses` is the truth about what it cannot show."""

    vhost: str
    way: Way
    reason: str
    sees: str
    misses: list[str]
    costs: str
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    """The key or pattern the messages of `exchange` are narrowed to."""
    narrow: Narrow = "no"
    """How the tap itself has to compare the key, where the broker's routing does not do it."""
    bindings: list[Binding] = []
    """What the copy queue is bound to."""
    publishes_to: list[str] = []
    """The exchanges whose publishes the firehose is asked for."""
    offset: str | int | None = None
    """Where reading of a stream begins: first, last, next, a number, or an ISO time."""
    take_limit: int | None = None
    """The most that a hold takes at once."""
    accept_loss: bool = False
    """Hold also where the peek budget is used up."""
    accept_delay: bool = False
    """Hold also where delayed retry hides for a while what is given back."""
    refused: list[RefusedWay] = []
    built_on: Foundation = Foundation()
    """What it was made for, to see when that is gone or another."""

    @property
    def target(self) -> str:
        """What is watched, in words."""
        if self.queue is not None:
            return self.queue
        if self.exchange is None:
            return f"vhost {self.vhost}"
        name = f"exchange {self.exchange or '(default)'}"
        return f"{name}, key {self.routing_key}" if self.routing_key is not None else name

    @property
    def coverage(self) -> str:
        """Say in one line what is seen and what is not."""
        return f"sees {self.sees}; not: {', '.join(self.misses) or 'nothing'}"


class Verdict(msgspec.Struct, kw_only=True):
    """One way, judged: a refusal, or the plan it would be."""

    way: Way
    refusal: str | None = None
    by_name: str | None = None
    """Why it is not taken by itself, but only when it is asked for."""
    plan: TapPlan | None = None


# --- words


def bindings_of(infos: list[BindingInfo]) -> list[Binding]:
    """Take over bindings, each once."""
    unique = {
        (info.source, info.routing_key, msgspec.json.encode(info.arguments or {}, order="sorted")): info
        for info in infos
    }
    return [
        Binding(exchange=info.source, routing_key=info.routing_key, arguments=info.arguments or {})
        for info in unique.values()
    ]


def counted(count: int, noun: str) -> str:
    """Write a number of things."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(infos: list[BindingInfo], limit: int = 4) -> str:
    """Name bindings, the first few."""
    names = list(dict.fromkeys(described(info) for info in infos))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def described(info: BindingInfo) -> str:
    """Name a binding by where it begins and what it takes."""
    arguments = f" {info.arguments}" if info.arguments else ""
    return (
        f"{info.source} {info.routing_key!r}{arguments}"
        if info.routing_key or not arguments
        else f"{info.source}{arguments}"
    )
