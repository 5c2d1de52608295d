"""The tail planner: which way to see messages without harm, what it will see, and what it cannot.

Facts run on 3.10.8 and 4.0.5 stand behind each rule. A stream is read without taking anything. A copy queue with the
queue's own bindings costs the bus next to nothing, but a queue cannot be bound to the default exchange, and one more
queue at a hash exchange takes messages away from the others. The firehose sees every publish, but costs the whole vhost
and needs an administrator. Holding takes messages from whoever else consumes, so it is for queues that nobody consumes.
"""

from __future__ import annotations

from busctl_lib.broker import MessageBroker
from busctl_lib.errors import ConfigError, GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.rights import Rights
from busctl_lib.taps.exchanges import for_exchange
from busctl_lib.taps.footing import foundation_of
from busctl_lib.taps.guards import Guard, firehose_guard
from busctl_lib.taps.needs import require_rights
from busctl_lib.taps.plans import COPY_COSTS, WAITING, WAYS, RefusedWay, TapPlan, Verdict, bindings_of, counted, listed
from busctl_lib.taps.sources import Sources, dead_letterers, sources_of
from busctl_lib.taps.taking import Asked, taking


def plan(
    management: ManagementClient,
    vhost: str,
    queue: str | None = None,
    *,
    exchange: str | None = None,
    key: str | None = None,
    everything: bool = False,
    via: str = "auto",
    since: str | int = "next",
    production: bool = False,
    accept_loss: bool = False,
    accept_delay: bool = False,
    rights: Rights | None = None,
    broker: MessageBroker | None = None,
) -> TapPlan:
    """Choose the way to watch a queue, what goes through an exchange, or a whole vhost.

    Args:
        management: Where the bindings are read.
        vhost: Where the queue or the exchange is.
        queue: The queue to watch; or else
        exchange: the exchange to watch; "" is the default one; or else
        everything: all that is published in the vhost.
        key: With an exchange: only messages of this routing key (of a topic exchange: pattern).
        via: "auto", or the way that must be taken.
        since: Where to begin in a stream: first, last, next, an offset, or an ISO time.
        production: Never choose the firehose, nor take messages to look at them, unless it is named.
        accept_loss: Hold also where the peek budget is used up.
        accept_delay: Hold also where delayed retry hides for a while what is given back.
        rights: Of the user who will watch: no way is planned that takes a right it is known not to have.
        broker: To the vhost: asked before a hold is refused for a consumer that the API may still tell of in error.

    Raises:
        NotFound: no such queue or exchange.
        GuardRefused: no way, or not the named one, would show the truth without harm (fact `refused`).
    """
    if via not in ("auto", *WAYS):
        raise ConfigError(f"no way {via!r} to watch a queue", hint=f"one of: auto, {', '.join(WAYS)}")
    if (queue is not None) + (exchange is not None) + everything != 1:
        raise ConfigError("a tap watches a queue, an exchange or everything: name one of them")
    if queue is None and via in ("stream", "hold", "consume"):
        raise ConfigError(f"--via {via} is a way to watch a queue", hint="name the queue")
    guard = firehose_guard(management, vhost, production=production and via != "firehose")
    guard.by_itself = via != "firehose"
    built_on = foundation_of(management, vhost, queue, exchange)  # first: what changes after it will be seen
    if queue is not None:
        asked = Asked(
            via=via,
            since=since,
            production=production,
            accept_loss=accept_loss,
            accept_delay=accept_delay,
            rights=rights,
            broker=broker,
        )
        verdicts = _for_queue(management, vhost, queue, guard, asked)
    elif exchange is not None:
        verdicts = for_exchange(management, vhost, exchange, key, guard)
    else:
        verdicts = [_all_by_firehose(vhost, guard)]
    made = _choose(
        verdicts, via, rights, queue or (f"exchange {exchange!r}" if exchange is not None else f"vhost {vhost!r}")
    )
    made.built_on = built_on.of(made.way)
    return made


def _choose(verdicts: list[Verdict], via: str, rights: Rights | None, target: str) -> TapPlan:
    refused: list[RefusedWay] = []
    for verdict in verdicts:
        if via in ("auto", verdict.way):
            require_rights(verdict, rights)
        why = verdict.refusal or (verdict.by_name if via == "auto" else None)
        if why is not None and verdict.way == "consume" and via == "auto":
            continue  # nobody expects that from a look
        if why is not None:
            refused.append(RefusedWay(way=verdict.way, reason=why))
        elif verdict.plan is not None and via in ("auto", verdict.way):
            verdict.plan.refused = refused
            if refused and via == "auto":
                verdict.plan.reason += "; " + "; ".join(f"not by {way.way}: {way.reason}" for way in refused)
            return verdict.plan
    for verdict in verdicts:
        require_rights(verdict, rights)
    possible = [verdict.way for verdict in verdicts if verdict.refusal is None and verdict.plan is not None]
    reasons = [f"{way.way}: {way.reason}" for way in refused if via in ("auto", way.way)]
    ways = " or ".join(f"--via {way}{' (takes them away)' * (way == 'consume')}" for way in possible)
    raise GuardRefused(
        f"{target} cannot be watched without harm or silence; {'; '.join(reasons)}",
        hint=f"possible: {ways}" if possible else "watch the exchange that its messages go through: --exchange NAME",
        target=target,
        refused=refused,
    )


def _all_by_firehose(vhost: str, guard: Guard) -> Verdict:
    if guard.refusal is not None:
        return Verdict(way="firehose", refusal=guard.refusal)
    made = TapPlan(
        vhost=vhost,
        way="firehose",
        reason="only the firehose shows a whole vhost",
        sees="every message published in the vhost, also those that no queue takes",
        misses=[WAITING.replace("the queue", "queues"), "dead letters", *guard.misses],
        costs=guard.costs,
        publishes_to=["#"],
    )
    return Verdict(way="firehose", by_name=guard.by_name, plan=made)


# --- a queue


def _for_queue(management: ManagementClient, vhost: str, queue: str, guard: Guard, asked: Asked) -> list[Verdict]:
    sources = sources_of(management, vhost, queue)
    verdicts = [_copy_of_queue(vhost, queue, sources), _firehose_of_queue(management, vhost, queue, sources, guard)]
    copies_nothing = sources.direct.only and bool(sources.bindings)
    if copies_nothing or (sources.harms and verdicts[0].refusal is None):
        verdicts.reverse()  # the copy would be blind, or see only some of the routes
    return taking(management, sources.queue, verdicts, asked)


def _copy_of_queue(vhost: str, queue: str, sources: Sources) -> Verdict:
    if not sources.bindings:
        reason = "only the default exchange leads to the queue, and no copy can be bound there"
        return Verdict(way="copy", refusal=reason)
    safe = [found for found in sources.bindings if found.source not in sources.harms]
    harms = [f"{name}: {why}" for name, why in sources.harms.items()]
    if not safe:
        return Verdict(way="copy", refusal="; ".join(harms))
    misses = [f"what comes from {name} ({why})" for name, why in sources.harms.items()]
    made = TapPlan(
        vhost=vhost,
        way="copy",
        reason="the queue is bound to " + counted(len({found.source for found in sources.bindings}), "exchange"),
        sees=f"what {counted(len(safe), 'binding')} bring{'s' * (len(safe) == 1)}: {listed(safe)}",
        misses=[*misses, _direct_miss(sources), WAITING],
        costs=COPY_COSTS,
        queue=queue,
        bindings=bindings_of(safe),
    )
    return Verdict(way="copy", plan=made)


def _direct_miss(sources: Sources) -> str:
    direct = sources.direct
    what = "messages sent straight to the queue by the default exchange or as dead letters"
    if direct.none_ever:
        return what + " (the default exchange has brought none so far)"
    if direct.at_least:
        return f"{what} (at least {direct.at_least:,} of the {direct.total:,} so far came so: --via firehose sees them)"
    return what


def _firehose_of_queue(management: ManagementClient, vhost: str, queue: str, sources: Sources, guard: Guard) -> Verdict:
    if guard.refusal is not None:
        return Verdict(way="firehose", refusal=guard.refusal)
    letters, by_name = "dead letters that come to it", guard.by_name
    if not sources.bindings and (guard.few_queues or not sources.direct.total):
        feeders = dead_letterers(management, vhost, queue)
        if feeders and guard.by_itself and not sources.direct.total:
            by_name = by_name or _only_dead_letters(feeders)
        letters = f"dead letters from {', '.join(feeders)}" if feeders else letters
    through = [name for name in sources.entrances if name]
    ways = "by the default exchange" + (f" and through {', '.join(through)}" if through else "")
    made = TapPlan(
        vhost=vhost,
        way="firehose",
        reason="the firehose shows every publish, whatever the exchange",
        sees=f"every message published to the queue, {ways}",
        misses=[WAITING, letters, *guard.misses],
        costs=guard.costs,
        queue=queue,
        publishes_to=sources.entrances,
    )
    return Verdict(way="firehose", by_name=by_name, plan=made)


def _only_dead_letters(feeders: list[str]) -> str:
    return (
        f"what comes here are dead letters of {', '.join(feeders)}, passed on inside the broker where the firehose "
        "does not look; publishes to the queue itself are shown by --via firehose"
    )
