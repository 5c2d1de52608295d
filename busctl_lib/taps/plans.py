"""The tail planner: which way to see messages without harm, what it will see, and what it cannot.

Facts run on 3.10.8 and 4.0.5 stand behind each rule. A copy queue with the queue's own bindings costs the bus next to
nothing, but a queue cannot be bound to the default exchange, and one more queue at a hash exchange takes messages away
from the others. The firehose sees every publish, but costs the whole vhost and needs an administrator.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from busctl_lib.errors import ConfigError, GuardRefused
from busctl_lib.management import BindingInfo, ExchangeInfo, ManagementClient
from busctl_lib.taps import keys
from busctl_lib.taps.sources import Sources, Topology, dead_letterers, sources_of

Way = Literal["copy", "firehose"]
WAYS: tuple[Way, ...] = get_args(Way)
Narrow = Literal["no", "equal", "pattern"]
TAP_PREFIX = "busctl.tap."
"""How the queues of all taps are named."""

_COPY_COSTS = "one exclusive queue with a bounded length, gone with the tap"
_WAITING = "messages that wait in the queue already"
_FEW_QUEUES = 1000
_PER_NODE = "messages published through other nodes of the cluster than {node} (tracing is a switch of each node)"


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
    refused: list[RefusedWay] = []

    @property
    def target(self) -> str:
        """What is watched, in words."""
        if self.queue is not None:
            return self.queue
        name = f"exchange {self.exchange or '(default)'}"
        return f"{name}, key {self.routing_key}" if self.routing_key is not None else name

    @property
    def coverage(self) -> str:
        """Say in one line what is seen and what is not."""
        return f"sees {self.sees}; not: {', '.join(self.misses)}"


class _Verdict(msgspec.Struct, kw_only=True):
    """One way, judged: a refusal, or the plan it would be."""

    way: Way
    refusal: str | None = None
    plan: TapPlan | None = None


def plan(
    management: ManagementClient,
    vhost: str,
    queue: str | None = None,
    *,
    exchange: str | None = None,
    key: str | None = None,
    via: str = "auto",
    production: bool = False,
) -> TapPlan:
    """Choose the way to watch a queue, or what goes through an exchange.

    Args:
        management: Where the bindings are read.
        vhost: Where the queue or the exchange is.
        queue: The queue to watch; or else
        exchange: the exchange to watch; "" is the default one.
        key: With an exchange: only messages of this routing key (of a topic exchange: pattern).
        via: "auto", or the way that must be taken.
        production: Never choose the firehose unless it is named.

    Raises:
        NotFound: no such queue or exchange.
        GuardRefused: no way, or not the named one, would show the truth without harm (fact `refused`).
    """
    if via not in ("auto", *WAYS):
        raise ConfigError(f"no way {via!r} to watch a queue", hint=f"one of: auto, {', '.join(WAYS)}")
    if (queue is None) == (exchange is None):
        raise ConfigError("a tap watches a queue or an exchange: name one of them")
    guard = _firehose_guard(management, vhost, production=production and via != "firehose")
    guard.by_itself = via != "firehose"
    if queue is not None:
        verdicts = _for_queue(management, vhost, queue, guard)
    else:
        verdicts = _for_exchange(management, vhost, exchange or "", key, guard)
    return _choose(verdicts, via, queue or f"exchange {exchange!r}")


def _choose(verdicts: list[_Verdict], via: str, target: str) -> TapPlan:
    refused = [RefusedWay(way=verdict.way, reason=verdict.refusal) for verdict in verdicts if verdict.refusal]
    for verdict in verdicts:
        if verdict.plan is not None and verdict.refusal is None and via in ("auto", verdict.way):
            verdict.plan.refused = refused
            if refused and via == "auto":
                verdict.plan.reason += "; " + "; ".join(f"not by {way.way}: {way.reason}" for way in refused)
            return verdict.plan
    possible = [verdict.way for verdict in verdicts if verdict.refusal is None]
    reasons = [f"{way.way}: {way.reason}" for way in refused if via in ("auto", way.way)]
    raise GuardRefused(
        f"{target} cannot be watched without harm or silence; {'; '.join(reasons)}",
        hint=f"possible: --via {' or --via '.join(possible)}" if possible else _advice(refused),
        target=target,
        refused=refused,
    )


def _advice(refused: list[RefusedWay]) -> str:
    if any("--via firehose" in way.reason for way in refused):
        return "the firehose works when it is asked for by name: --via firehose"
    return "watch the exchange that its messages are published to: --exchange NAME"


# --- a queue


def _for_queue(management: ManagementClient, vhost: str, queue: str, guard: _Guard) -> list[_Verdict]:
    sources = sources_of(management, vhost, queue)
    verdicts = [_copy_of_queue(vhost, queue, sources), _firehose_of_queue(management, vhost, queue, sources, guard)]
    copies_nothing = sources.direct.only and bool(sources.bindings)
    if copies_nothing or (sources.harms and verdicts[0].refusal is None):
        verdicts.reverse()  # the copy would be blind, or see only some of the routes
    return verdicts


def _copy_of_queue(vhost: str, queue: str, sources: Sources) -> _Verdict:
    if not sources.bindings:
        reason = "only the default exchange leads to the queue, and no copy can be bound there"
        return _Verdict(way="copy", refusal=reason)
    safe = [found for found in sources.bindings if found.source not in sources.harms]
    harms = [f"{name}: {why}" for name, why in sources.harms.items()]
    if not safe:
        return _Verdict(way="copy", refusal="; ".join(harms))
    misses = [f"what comes from {name} ({why})" for name, why in sources.harms.items()]
    made = TapPlan(
        vhost=vhost,
        way="copy",
        reason="the queue is bound to " + _counted(len({found.source for found in sources.bindings}), "exchange"),
        sees=f"what {_counted(len(safe), 'binding')} bring{'s' * (len(safe) == 1)}: {_listed(safe)}",
        misses=[*misses, _direct_miss(sources), _WAITING],
        costs=_COPY_COSTS,
        queue=queue,
        bindings=_bindings(safe),
    )
    return _Verdict(way="copy", plan=made)


def _direct_miss(sources: Sources) -> str:
    direct = sources.direct
    what = "messages sent straight to the queue by the default exchange or as dead letters"
    if direct.none_ever:
        return what + " (the default exchange has brought none so far)"
    if direct.at_least:
        return f"{what} (at least {direct.at_least:,} of the {direct.total:,} so far came so: --via firehose sees them)"
    return what


def _firehose_of_queue(
    management: ManagementClient, vhost: str, queue: str, sources: Sources, guard: _Guard
) -> _Verdict:
    if guard.refusal is not None:
        return _Verdict(way="firehose", refusal=guard.refusal)
    letters = "dead letters that come to it"
    if not sources.bindings and (guard.few_queues or not sources.direct.total):
        feeders = dead_letterers(management, vhost, queue)
        if feeders and guard.by_itself and not sources.direct.total:
            return _Verdict(way="firehose", refusal=_only_dead_letters(feeders))
        letters = f"dead letters from {', '.join(feeders)}" if feeders else letters
    through = [name for name in sources.entrances if name]
    ways = "by the default exchange" + (f" and through {', '.join(through)}" if through else "")
    made = TapPlan(
        vhost=vhost,
        way="firehose",
        reason="the firehose shows every publish, whatever the exchange",
        sees=f"every message published to the queue, {ways}",
        misses=[_WAITING, letters, *guard.misses],
        costs=guard.costs,
        queue=queue,
        publishes_to=sources.entrances,
    )
    return _Verdict(way="firehose", plan=made)


def _only_dead_letters(feeders: list[str]) -> str:
    return (
        f"what comes here are dead letters of {', '.join(feeders)}, passed on inside the broker where the firehose "
        "does not look; publishes to the queue itself are shown by --via firehose"
    )


# --- an exchange


def _for_exchange(
    management: ManagementClient, vhost: str, exchange: str, key: str | None, guard: _Guard
) -> list[_Verdict]:
    topology = Topology(management, vhost)
    info = management.exchange(vhost, exchange)
    narrow: Narrow = "no" if key is None else "pattern" if info.type == "topic" else "equal"
    with_key = "" if key is None else f" with key {key}"
    firehose = _Verdict(way="firehose", refusal=guard.refusal)
    if guard.refusal is None:
        firehose.plan = TapPlan(
            vhost=vhost,
            way="firehose",
            reason="the firehose shows every publish to the exchange",
            sees=f"every message published to the exchange{with_key}, also those that no queue takes",
            misses=["what comes to it from other exchanges or as dead letters", *guard.misses],
            costs=guard.costs,
            exchange=exchange,
            routing_key=key,
            narrow=narrow,
            publishes_to=[exchange],
        )
    if not exchange:
        copy = _Verdict(way="copy", refusal="nothing can be bound to the default exchange")
    elif (harm := topology.harm(exchange)) is not None:
        copy = _Verdict(way="copy", refusal=harm)
    else:
        copy = _copy_of_exchange(management, info, key, narrow)
    return [copy, firehose]


def _copy_of_exchange(management: ManagementClient, info: ExchangeInfo, key: str | None, narrow: Narrow) -> _Verdict:
    """Take over bindings that queues have, so that what was unroutable stays unroutable."""
    queues = [
        found
        for found in management.exchange_bindings(info.vhost, info.name)
        if found.destination_type == "queue" and not found.destination.startswith(TAP_PREFIX)
    ]
    by_key = key is not None and info.type not in ("fanout", "headers")  # there a key routes nothing
    if by_key:
        covers = keys.covers if narrow == "pattern" else str.__eq__
        queues = [found for found in queues if covers(found.routing_key, key or "")]
    if not queues:
        what = f"no binding to a queue covers the key {key!r}" if by_key else "no queue is bound to it directly"
        reason = f"{what}: with a copy there, publishers would be told that their message was routed"
        return _Verdict(way="copy", refusal=reason)
    taken = f"what its {_counted(len(queues), 'binding')} to queues take{'s' * (len(queues) == 1)}: {_listed(queues)}"
    made = TapPlan(
        vhost=info.vhost,
        way="copy",
        reason="queues are bound to the exchange for the same keys",
        sees=f"messages with key {key}" if by_key else taken,
        misses=["messages that no queue takes"],
        costs=_COPY_COSTS,
        exchange=info.name,
        routing_key=key,
        narrow="no" if by_key else narrow,
        bindings=[Binding(exchange=info.name, routing_key=key or "", arguments={})] if by_key else _bindings(queues),
    )
    return _Verdict(way="copy", plan=made)


# --- the firehose


class _Guard(msgspec.Struct, kw_only=True):
    """Whether the firehose may be used at all, and what it costs and misses in this place."""

    refusal: str | None = None
    by_itself: bool = True
    """It was not asked for by name."""
    few_queues: bool = False
    """Looking at all queues is cheap."""
    misses: list[str] = []
    costs: str = ""


def _firehose_guard(management: ManagementClient, vhost: str, *, production: bool) -> _Guard:
    if management.read_only:
        return _Guard(refusal="it switches the tracing of the vhost, and this session is read-only")
    if production:
        return _Guard(refusal="it costs the whole vhost, and this is production: ask for it by name, --via firehose")
    info = management.vhost(vhost)
    me = management.whoami()
    if not info.tracing and "administrator" not in me.tag_names:
        tags = ", ".join(sorted(me.tag_names)) or "none"
        return _Guard(refusal=f"switching tracing on needs the tag administrator, user {me.name!r} has: {tags}")
    overview = management.overview()
    misses = ["whether a message was redelivered", "timestamps of more than 32 bits"]
    if len(info.cluster_state or {}) > 1:
        misses.insert(0, _PER_NODE.format(node=overview.node))
    costs = f"tracing of vhost {vhost} is on while it runs: every publish there costs the broker a second one"
    queues = overview.object_totals.queues if overview.object_totals is not None else None
    return _Guard(misses=misses, costs=costs, few_queues=(queues or 0) <= _FEW_QUEUES)


# --- words


def _bindings(infos: list[BindingInfo]) -> list[Binding]:
    unique = {
        (info.source, info.routing_key, msgspec.json.encode(info.arguments or {}, order="sorted")): info
        for info in infos
    }
    return [
        Binding(exchange=info.source, routing_key=info.routing_key, arguments=info.arguments or {})
        for info in unique.values()
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _listed(infos: list[BindingInfo], limit: int = 4) -> str:
    names = list(dict.fromkeys(_described(info) for info in infos))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _described(info: BindingInfo) -> str:
    arguments = f" {info.arguments}" if info.arguments else ""
    return (
        f"{info.source} {info.routing_key!r}{arguments}"
        if info.routing_key or not arguments
        else f"{info.source}{arguments}"
    )
