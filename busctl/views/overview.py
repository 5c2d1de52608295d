"""The overview: the state of the whole bus in one place, and what needs attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from busctl.views import connections, formats, nodes, queues
from busctl.views.columns import rate_of
from busctl.views.view import Tone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from busctl_lib.management.infos import ConnectionInfo, QueueInfo
    from busctl_lib.management.infos_cluster import DeprecatedFeature, HealthCheck, NodeInfo, OverviewInfo

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
        *_tag_facts(info),
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


def tags(info: OverviewInfo) -> str | None:
    """The tags of the cluster and of the node that answered; None where there are none, or none are known."""
    parts = [f"{name}={value}" for name, value in sorted((info.cluster_tags or {}).items())]
    own = [f"{name}={value}" for name, value in sorted((info.node_tags or {}).items())]
    if own:
        parts.append(f"{', '.join(own)} ({info.node or 'the node that answered'})")
    return formats.safe_text("; ".join(parts)) or None


def _tag_facts(info: OverviewInfo) -> list[Fact]:
    return [Fact("tags", text)] if (text := tags(info)) is not None else []


def health(found: Sequence[HealthCheck]) -> Fact:
    """What the broker's own checks said, of the cluster or of the node that answered."""
    asked = [each for each in found if each.status != "absent"]
    if not asked:
        return Fact("checks", "not available on this version", Tone.MUTED)
    failed = [_told(each) for each in asked if each.status == "failed"]
    unknown = [_told(each) for each in asked if each.status == "unknown"]
    if failed or unknown:
        return Fact("checks", "; ".join([*failed, *unknown]), Tone.BAD if failed else Tone.WARN)
    return Fact("checks", f"{len(asked)} of {len(asked)} ok, as the node that answered sees it", Tone.GOOD)


def _told(check: HealthCheck) -> str:
    what = "failed" if check.status == "failed" else "not known"
    return formats.safe_text(f"{check.name} {what}: {check.reason or 'no reason given'}")


def deprecated(found: Sequence[DeprecatedFeature] | None, why: str = "") -> Fact:
    """Which features are in use that a later version will not have."""
    if found is None:
        return Fact("deprecated", formats.safe_text(f"not known: {why or 'this version does not tell'}"), Tone.MUTED)
    parts = [f"{each.name} ({_phase(each)})" for each in found]
    return Fact(
        "deprecated", formats.safe_text(", ".join(parts)) or "nothing in use", Tone.WARN if parts else Tone.GOOD
    )


def _phase(info: DeprecatedFeature) -> str:
    return (info.deprecation_phase or "in use").replace("_", " ")


def of_broker(checks: Sequence[HealthCheck], features: Sequence[DeprecatedFeature] | None) -> str:
    """What its checks say and what is deprecated, in a few words, as far as there is anything to say."""
    asked = [each for each in checks if each.status != "absent"]
    passed = sum(each.status == "ok" for each in asked)
    parts = [f"checks {passed} of {len(asked)} ok"] if asked else []
    if features:
        parts.append(f"deprecated in use: {', '.join(each.name for each in features)}")
    return formats.safe_text("  ".join(parts))


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
    node_infos: Collection[NodeInfo] | None = None,
    connection_infos: Iterable[ConnectionInfo] = (),
) -> list[Attention]:
    """List what needs attention: nodes in trouble, clients held back, then queues, the worst and the fullest first."""
    found = [
        Attention(formats.safe_text(node.name), ", ".join(problems), "✖", Tone.BAD)
        for node in node_infos or ()
        if (problems := nodes.problems(node))
    ]
    found += _mixed(node_infos or ())
    found += [_held_back(info) for info in connection_infos if connections.is_held_back(info)]
    troubled = [(info, state) for info in infos if (state := queues.of_note(info)) is not None and state.tone in _ORDER]
    troubled.sort(key=lambda pair: (_ORDER[pair[1].tone], -(pair[0].messages or 0), pair[0].name))
    found += [
        Attention(formats.safe_text(info.name), _about(info, state), state.mark, state.tone, info.key)
        for info, state in troubled
    ]
    return found


def _mixed(infos: Iterable[NodeInfo]) -> list[Attention]:
    text = nodes.versions(infos)
    return [] if text is None else [Attention("cluster", f"nodes run different versions: {text}", "▲", Tone.WARN)]


def of_checks(found: Iterable[HealthCheck]) -> list[Attention]:
    """What the broker's own checks found wrong."""
    return [
        Attention(formats.safe_text(each.name), formats.safe_text(each.reason or "the check failed"), "✖", Tone.BAD)
        for each in found
        if each.status == "failed"
    ]


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
