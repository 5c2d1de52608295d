"""The overview: the state of the whole bus in one place, and what needs attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from busctl.views import connections, formats, nodes, queues
from busctl.views.columns import rate_of
from busctl.views.view import Tone

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from busctl_lib.management.infos import ConnectionInfo, QueueInfo
    from busctl_lib.management.infos_cluster import NodeInfo, OverviewInfo

_ORDER = {Tone.BAD: 0, Tone.WARN: 1}


class Fact(NamedTuple):
    """One line of the overview."""

    label: str
    text: str
    tone: Tone = Tone.NORMAL


class Attention(NamedTuple):
    """Something that should be looked at."""

    name: str
    """Of the node or queue, safe to show."""
    text: str
    """What is the matter, numbers included: clauses with commas between, what matters most first."""
    mark: str
    tone: Tone
    key: tuple[str, str] | None = None
    """(vhost, queue) when it is a queue."""


def rate_in(info: OverviewInfo) -> float | None:
    """Messages per second published to the whole bus."""
    return rate_of(info.message_stats, "publish")


def rate_out(info: OverviewInfo) -> float | None:
    """Messages per second delivered by the whole bus."""
    return rate_of(info.message_stats, "deliver_get")


def alarms(infos: Iterable[NodeInfo]) -> list[str]:
    """Name every problem of every node, as "rabbit@a: memory alarm"."""
    return [f"{formats.safe_text(info.name)}: {problem}" for info in infos for problem in nodes.problems(info)]


def facts(info: OverviewInfo, infos: Sequence[NodeInfo] | None) -> list[Fact]:
    """Put the overview into labelled lines. Without the monitoring tag the nodes are None: not known."""
    totals, objects = info.queue_totals, info.object_totals
    return [
        Fact("cluster", formats.safe_text(info.cluster_name or formats.UNKNOWN)),
        Fact(
            "version",
            formats.safe_text(f"{info.product_name or 'RabbitMQ'} {info.rabbitmq_version or formats.UNKNOWN}"),
        ),
        _node_fact(infos),
        _alarm_fact(infos),
        Fact("rates", f"{formats.rate(rate_in(info))}/s in, {formats.rate(rate_out(info))}/s out"),
        *_unroutable(info),
        Fact(
            "messages",
            f"{formats.count(totals.messages_ready if totals else None)} ready, "
            f"{formats.count(totals.messages_unacknowledged if totals else None)} unacked",
        ),
        Fact(
            "objects",
            ", ".join(
                f"{formats.count(getattr(objects, noun) if objects else None)} {noun}"
                for noun in ("queues", "exchanges", "connections", "channels", "consumers")
            ),
        ),
    ]


def _unroutable(info: OverviewInfo) -> list[Fact]:
    """What finds no queue anywhere on the bus, where there is any."""
    returned = rate_of(info.message_stats, "return_unroutable")
    dropped = rate_of(info.message_stats, "drop_unroutable")
    if not returned and not dropped:
        return []
    text = f"{formats.rate(returned or 0)}/s returned to publishers, {formats.rate(dropped or 0)}/s dropped"
    return [Fact("unroutable", text, Tone.BAD if dropped else Tone.WARN)]


def _node_fact(infos: Sequence[NodeInfo] | None) -> Fact:
    if infos is None:
        return Fact("nodes", "not known: needs the monitoring tag", Tone.MUTED)
    up = sum(info.running is not False for info in infos)
    return Fact("nodes", f"{up}/{len(infos)} running", Tone.GOOD if up == len(infos) else Tone.BAD)


def _alarm_fact(infos: Sequence[NodeInfo] | None) -> Fact:
    if infos is None:
        return Fact("alarms", "not known: needs the monitoring tag", Tone.MUTED)
    found = alarms(infos)
    return Fact("alarms", "; ".join(found) or "none", Tone.BAD if found else Tone.GOOD)


def attention(
    infos: Iterable[QueueInfo],
    node_infos: Iterable[NodeInfo] | None = None,
    connection_infos: Iterable[ConnectionInfo] = (),
) -> list[Attention]:
    """List what needs attention: nodes in trouble, clients held back, then queues, the worst and the fullest first."""
    found = [
        Attention(formats.safe_text(node.name), ", ".join(problems), "✖", Tone.BAD)
        for node in node_infos or ()
        if (problems := nodes.problems(node))
    ]
    found += [_held_back(info) for info in connection_infos if connections.is_held_back(info)]
    troubled = [(info, state) for info in infos if (state := queues.of_note(info)) is not None and state.tone in _ORDER]
    troubled.sort(key=lambda pair: (_ORDER[pair[1].tone], -(pair[0].messages or 0), pair[0].name))
    found += [
        Attention(formats.safe_text(info.name), _about(info, state), state.mark, state.tone, info.key)
        for info, state in troubled
    ]
    return found


def _held_back(info: ConnectionInfo) -> Attention:
    tone = connections.state_tone(info.state)
    what = f"connection {'of ' + info.user if info.user else ''} {info.state}: its publishing is held back"
    name = connections.client(info) or info.name
    return Attention(formats.safe_text(name), formats.safe_text(what), "✖" if tone is Tone.BAD else "▲", tone)


def _about(info: QueueInfo, state: queues.State) -> str:
    if state.word == "dead letters":
        return f"{formats.count(info.messages)} dead letter{'s' if info.messages != 1 else ''}"
    parts = [state.word, f"{formats.count(info.messages_ready)} ready"]
    if info.consumers:
        parts.append(formats.counted(info.consumers, "consumer"))
    return formats.safe_text(", ".join(parts))
