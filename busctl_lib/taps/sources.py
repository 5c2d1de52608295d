"""Where a queue's messages come from: its bindings, the exchanges behind them, and what a copy of them would do."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from busctl_lib.management import (
    BindingInfo,
    ExchangeInfo,
    ManagementClient,
    QueueInfo,
    alternate_of,
    definitions_of,
)

_ADDS_NOTHING = ("direct", "fanout", "topic", "headers")
"""Exchange types where one more queue leaves the routing to the others as it is. Any other type may share out."""


class Sources(msgspec.Struct, kw_only=True):
    """What feeds one queue."""

    queue: QueueInfo
    bindings: list[BindingInfo]
    """Those to exchanges beyond the default one."""
    harms: dict[str, str]
    """Bound exchanges where one more queue would change the bus, and how."""
    entrances: list[str]
    """Exchanges that publishers may use to reach the queue; "" first, then over bindings and alternates, sorted."""
    direct: Direct


class Direct(msgspec.Struct, kw_only=True):
    """What the broker's counters say about messages that came by the default exchange."""

    total: int | None
    """Messages published into the queue so far, as far as the broker counts; None when it does not say."""
    at_least: int
    """Of these so many at least by the default exchange."""
    none_ever: bool
    """The default exchange has routed nothing in this vhost, so nothing to this queue."""
    only: bool
    """None of the other exchanges has received anything, the default one has."""


class Topology:
    """The exchanges of one vhost, and which lead to which."""

    def __init__(self, management: ManagementClient, vhost: str) -> None:
        self._management = management
        self._vhost = vhost
        self.exchanges = {info.name: info for info in management.exchanges(vhost)}
        self._definitions = definitions_of(management.policies(vhost))

    def alternate_of(self, info: ExchangeInfo) -> str | None:
        """Name the exchange that gets what this one cannot route."""
        return alternate_of(info, self._definitions)

    def described(self, info: ExchangeInfo) -> str:
        """Say what an exchange is, as far as it decides who gets its messages."""
        parts = [info.type or "of an unknown type"]
        parts += ["auto-delete"] * bool(info.auto_delete) + ["internal"] * bool(info.internal)
        alternate = self.alternate_of(info)
        parts += [f"with the alternate exchange {alternate}"] if alternate else []
        others = {name: value for name, value in (info.arguments or {}).items() if name != "alternate-exchange"}
        parts += [str(others)] if others else []
        return ", ".join(parts)

    def harm(self, name: str) -> str | None:
        """Say what a copy queue bound to this exchange would change, if anything."""
        info = self.exchanges.get(name)
        if info is None:
            return "it is gone"
        kind = info.type or "?"
        if kind == "x-delayed-message":
            kind = str((info.arguments or {}).get("x-delayed-type", "?"))
        if kind not in _ADDS_NOTHING:
            return f"its type {kind} may share messages out among its queues: a copy would take some away"
        if info.auto_delete:
            return "it is auto-delete: it could live as long as the copy, and be gone with it"
        alternate = self.alternate_of(info)
        if alternate:
            return f"it has an alternate exchange ({alternate}), which could miss what a copy takes"
        return None

    def entrances(self, names: Iterable[str]) -> list[str]:
        """Find all exchanges from which a message can get to one of these, themselves included."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            waiting += [info.source for info in self._arriving(name)]
            waiting += [info.name for info in self.exchanges.values() if self.alternate_of(info) == name]
        return sorted(found)

    def _arriving(self, name: str) -> list[BindingInfo]:
        if not name:
            return []
        return self._management.exchange_sources(self._vhost, name)


def sources_of(management: ManagementClient, vhost: str, queue: str) -> Sources:
    """Read what feeds a queue.

    Raises:
        NotFound: no such queue. QueueAway: it cannot be reached now.
    """
    info = management.queue_at_hand(vhost, queue)
    bindings = [found for found in management.queue_bindings(vhost, queue) if found.source]
    topology = Topology(management, vhost)
    bound = sorted({found.source for found in bindings})
    entrances = topology.entrances(bound)
    harms = {name: why for name in bound if (why := topology.harm(name)) is not None}
    return Sources(
        queue=info,
        bindings=bindings,
        harms=harms,
        entrances=["", *entrances],
        direct=_direct(info, topology.exchanges, entrances),
    )


def _direct(queue: QueueInfo, exchanges: dict[str, ExchangeInfo], entrances: list[str]) -> Direct:
    """Weigh the counters: a message published to one of the entrances comes to the queue once at most."""
    stats = queue.message_stats
    total = stats.publish if stats is not None else None
    by_default = _count(exchanges.get(""), "publish_out")
    by_others = sum(_count(exchanges.get(name), "publish_in") for name in entrances)
    return Direct(
        total=total,
        at_least=max(0, (total or 0) - by_others),
        none_ever=total is not None and by_default == 0,
        only=by_others == 0 and by_default > 0 and bool(total),
    )


def _count(info: ExchangeInfo | None, name: str) -> int:
    stats = info.message_stats if info is not None else None
    return (getattr(stats, name) if stats is not None else None) or 0


def dead_letterers(management: ManagementClient, vhost: str, queue: str) -> list[str]:
    """Name the queues that dead-letter into this one by the default exchange, where no tap sees it."""
    found = []
    for info in management.queues_with_rates(vhost):
        policy, arguments = info.effective_policy_definition or {}, info.arguments or {}
        exchange = arguments.get("x-dead-letter-exchange", policy.get("dead-letter-exchange"))
        key = arguments.get("x-dead-letter-routing-key", policy.get("dead-letter-routing-key"))
        if exchange == "" and key == queue:
            found.append(info.name)
    return sorted(found)
