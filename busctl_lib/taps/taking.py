"""The ways that read the queue itself: a stream at an offset, holding what waits, and consuming by name."""

from __future__ import annotations

from typing import Any

import msgspec

from busctl_lib.broker import MessageBroker
from busctl_lib.errors import ConfigError, GuardRefused
from busctl_lib.management import ManagementClient, QueueInfo, settings_of
from busctl_lib.rights import Rights
from busctl_lib.taps.budget import PeekBudget, peek_budget
from busctl_lib.taps.needs import require_rights
from busctl_lib.taps.plans import TapPlan, Verdict, counted

HOLD_MAX = 2000
"""One consumer on a quorum queue is given no more, and nobody reads more at once."""
SINGLE_ACTIVE = "x-single-active-consumer"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the planner, beside the queue."""

    via: str
    since: str | int
    production: bool
    accept_loss: bool
    accept_delay: bool
    rights: Rights | None = None
    broker: MessageBroker | None = None
    """Asked how many consume a queue, where the API still tells of some."""


def taking(management: ManagementClient, info: QueueInfo, others: list[Verdict], asked: Asked) -> list[Verdict]:
    """Put the ways that read a queue itself before and behind the others, the best first."""
    if info.type == "stream":
        read = "it is a stream: it is read, and nothing is taken"
        never = [Verdict(way="hold", refusal=read), Verdict(way="consume", refusal=read)]
        return [_stream(info, asked), *others, *never]
    if asked.via == "stream":
        others = [Verdict(way="stream", refusal=f"it is a {info.type or 'classic'} queue"), *others]
    elif asked.since != "next":
        raise ConfigError("--since is for streams: other queues keep nothing that was read")
    if any(_serves(verdict, asked) for verdict in others):
        return others  # the rest need not be asked for
    return [*others, _hold(management, info, asked), _consume(management, info, asked)]


def _serves(verdict: Verdict, asked: Asked) -> bool:
    """Whether this way will be taken."""
    wanted = verdict.by_name is None if asked.via == "auto" else asked.via == verdict.way
    if wanted:
        require_rights(verdict, asked.rights)
    return wanted and verdict.plan is not None and verdict.refusal is None


def _stream(info: QueueInfo, asked: Asked) -> Verdict:
    begin = {"next": "from now on", "first": "from the first that is kept", "last": "from the last chunk on"}
    made = TapPlan(
        vhost=info.vhost,
        way="stream",
        reason="the queue is a stream, which many may read",
        sees=f"every message of the stream {begin.get(str(asked.since), f'from {asked.since} on')}",
        misses=["what retention has removed"],
        costs="one consumer of the stream",
        queue=info.name,
        offset=asked.since,
    )
    return Verdict(way="stream", plan=made)


def _hold(management: ManagementClient, info: QueueInfo, asked: Asked) -> Verdict:
    refusal = cannot_hold(management, info, asked.broker)
    if refusal is not None:
        return Verdict(way="hold", refusal=refusal)
    budget = peek_budget(management, info.vhost, info.name, info=info)
    try:
        budget.require(accept_loss=asked.accept_loss, accept_delay=asked.accept_delay)
    except GuardRefused as error:
        return Verdict(way="hold", refusal=f"{error} ({error.hint})")
    made = TapPlan(
        vhost=info.vhost,
        way="hold",
        reason="nobody consumes the queue, so messages can be taken for a while and given back",
        sees=f"what waits in the queue and what comes, the first {HOLD_MAX:,}",
        misses=[f"messages behind the first {HOLD_MAX:,}", "what others hold unacknowledged"],
        costs=hold_costs(budget, consumer_timeout_ms(info, settings_of(management, info))),
        queue=info.name,
        take_limit=HOLD_MAX,
        accept_loss=asked.accept_loss,
        accept_delay=asked.accept_delay,
    )
    by_name = "it marks what it shows as redelivered, and this is production: ask for it by name"
    return Verdict(way="hold", by_name=by_name if asked.production else None, plan=made)


def hold_costs(budget: PeekBudget, timeout_ms: int | None) -> str:
    """Say what taking and giving back does to the queue, and what ends it."""
    costs = ["what is shown is invisible to others meanwhile and marked redelivered afterwards"]
    if budget.costs is not None:
        costs.append(budget.costs)
        costs.append("what came back to the queue before and is not held stands before it then")
    if budget.retry is not None and budget.retry.delays_returned:
        costs.append(f"delayed retry hides it for {budget.retry.text} more")
    if timeout_ms is not None:
        costs.append(f"the queue's consumer timeout ends it after {timeout_ms / 1000:g} s")
    return "; ".join(costs)


def consumer_timeout_ms(info: QueueInfo, settings: dict[str, Any]) -> int | None:
    """The consumer timeout that is set on a queue; None where the broker's own counts, 30 minutes by itself."""
    given = [settings.get("consumer-timeout"), (info.arguments or {}).get("x-consumer-timeout")]
    return min((ms for ms in given if isinstance(ms, int) and ms > 0), default=None)


def cannot_hold(management: ManagementClient, info: QueueInfo, broker: MessageBroker | None = None) -> str | None:
    """Say why messages of this queue cannot be held without harm to somebody, if so."""
    if management.read_only:
        return "it takes messages for a while, and this session is read-only"
    if consumers := _consumers(info, broker):
        return f"the queue has {counted(consumers, 'consumer')}: holding would take their messages"
    if (info.arguments or {}).get(SINGLE_ACTIVE):
        return "the queue lets one consumer be active: holding would keep the right one out"
    return ends_with_a_look(info, consumers)


def _consumers(info: QueueInfo, broker: MessageBroker | None) -> int:
    """How many there are. The API's count is some seconds old, and it may tell of one whose node was started again."""
    told = len(info.consumer_details) if info.consumer_details is not None else info.consumers or 0
    return broker.declare_queue(info.name, passive=True).consumer_count if told and broker is not None else told


def ends_with_a_look(info: QueueInfo, consumers: int) -> str | None:
    """Say why whoever consumes now, and be it for a look, would delete the queue at the end with all that is in it."""
    if not info.auto_delete or consumers:
        return None
    return (
        f"{info.name} deletes itself when its last consumer goes, which would be ours: all that waits would go with it"
    )


def require_lasting(info: QueueInfo, consumers: int) -> None:
    """Refuse to take from a queue that would end with us. Raises GuardRefused."""
    if (why := ends_with_a_look(info, consumers)) is not None:
        raise GuardRefused(why, hint="while a consumer of its own is there it can be done", queue=info.name)


def _consume(management: ManagementClient, info: QueueInfo, asked: Asked) -> Verdict:
    if management.read_only:
        return Verdict(way="consume", refusal="it takes the messages away, and this session is read-only")
    if (why := ends_with_a_look(info, _consumers(info, asked.broker))) is not None:
        return Verdict(way="consume", refusal=why)
    retry = peek_budget(management, info.vhost, info.name, info=info).retry
    costs = "the messages that are shown are gone from the queue"
    if retry is not None and retry.delays_returned:
        if not asked.accept_delay:
            return Verdict(way="consume", refusal=f"{retry.refusal(info.name)} (--accept-delay goes on)")
        costs += f"; what is fetched ahead and not shown is hidden for {retry.text} (delayed retry)"
    made = TapPlan(
        vhost=info.vhost,
        way="consume",
        reason="it was asked for by name",
        sees="every message that the broker gives to this consumer",
        misses=["what other consumers get"],
        costs=costs,
        queue=info.name,
        accept_loss=asked.accept_loss,
        accept_delay=asked.accept_delay,
    )
    return Verdict(way="consume", by_name="it takes the messages away", plan=made)
