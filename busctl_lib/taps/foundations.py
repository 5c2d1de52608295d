"""What a tap is built on: the queue or exchange as it was when the tap was planned, to see when that is no longer so.

Run on 3.10.8, 4.0.5 and 4.3.6: a queue that was deleted and declared again has the same definition, and nothing in the
API names its incarnation. Its counters are gone with it, though: they are smaller, or absent for some seconds. Where
the statistics of the broker begin anew they are, too, so it is told as either. A policy is in the list of policies at
once, and in what the API says of a queue up to seven seconds later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Way = Literal["stream", "copy", "firehose", "hold", "consume"]
"""How messages are seen."""


class Changes(msgspec.Struct, kw_only=True):
    """What is no longer as it was, in words."""

    itself: list[str] = []
    """The queue is another one of that name."""
    perhaps: list[str] = []
    """It may be another one that is the same in everything."""
    lost: list[str] = []
    """What brought messages, and does so no longer, or otherwise."""
    came: list[str] = []
    """What brings messages since."""
    settings: list[str] = []
    """What policies set, and what else of an exchange is not its type."""

    @property
    def doubtful(self) -> bool:
        """Whether what a copy showed may not have reached the queue."""
        return bool(self.itself or self.perhaps or self.lost)

    def __bool__(self) -> bool:
        return bool(self.itself or self.perhaps or self.lost or self.came or self.settings)

    @property
    def text(self) -> str:
        """All of it in one sentence."""
        itself = [f"it is another queue now ({'; '.join(self.itself)})"] if self.itself else []
        return "; ".join([*itself, *self.perhaps, *self.lost, *self.came, *self.settings])


class Foundation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a plan is built on, as it was at one moment."""

    queue: dict[str, Any] = {}
    """What the queue is: another value is another queue."""
    counted: int | None = None
    """Messages that came into the queue and left it, so far; None where the broker does not say."""
    settings: dict[str, Any] = {}
    """What policies set on the queue."""
    exchanges: dict[str, str] = {}
    """What the exchanges are, by name: those that the queue is bound to, or the one that is watched."""
    bindings: list[str] = []
    """From these exchanges to the queue; or from the exchange that is watched to queues."""
    entrances: list[str] = []
    """The exchanges by which publishers may reach the queue."""

    @property
    def consumer_timeout_ms(self) -> int | None:
        """The consumer timeout that is set on the queue; None where the broker's own counts."""
        given = [self.settings.get("consumer-timeout"), self.queue.get("argument x-consumer-timeout")]
        return min((ms for ms in given if isinstance(ms, int) and ms > 0), default=None)

    def of(self, way: Way) -> Foundation:
        """What of it a way is built on."""
        if way == "copy":
            return msgspec.structs.replace(self, entrances=[])
        if way == "firehose":
            exchanges = self.exchanges if not self.queue else {}
            return msgspec.structs.replace(self, exchanges=exchanges, bindings=[])
        return msgspec.structs.replace(self, exchanges={}, bindings=[], entrances=[])

    def changes(self, now: Foundation) -> Changes:
        """Say what is another now."""
        found = Changes(itself=_differences("its ", self.queue, now.queue))
        if not found.itself and self.counted is not None and (now.counted is None or now.counted < self.counted):
            found.perhaps.append(
                "its counters began anew: it was deleted and declared again, the same in everything, or the statistics "
                "of the broker were reset"
            )
        for name in sorted(self.exchanges.keys() & now.exchanges.keys()):
            old, new = self.exchanges[name], now.exchanges[name]
            if old != new:
                another = old.partition(",")[0] != new.partition(",")[0]  # of another type
                (found.lost if another else found.settings).append(f"exchange {name} is {new} now, was {old}")
        found.lost += [f"no longer bound: {each}" for each in _beyond(self.bindings, now.bindings)]
        found.lost += [f"{each} leads to it no longer" for each in _beyond(self.entrances, now.entrances)]
        found.came += [f"bound now: {each}" for each in _beyond(now.bindings, self.bindings)]
        found.came += [f"{each} leads to it as well now" for each in _beyond(now.entrances, self.entrances)]
        found.settings += _differences("policy ", self.settings, now.settings)
        return found


def _beyond(these: Iterable[str], those: Iterable[str]) -> list[str]:
    return sorted(set(these) - set(those))


def _differences(what: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{what}{name} is {_said(now.get(name))} now, was {_said(before.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _said(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
