"""What a user can do in a virtual host: each thing that busctl does there, held against the rights that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from busctl_lib.amqp.tries import Kind, Verb
from busctl_lib.deadletters.finding import LOCK_PREFIX
from busctl_lib.delays import PARKING, PREFIX, UNROUTABLE
from busctl_lib.rights import Need, Rights, needs, new_name
from busctl_lib.taps.leases import TRACE_EXCHANGE
from busctl_lib.taps.needs import needs_of_own_queue

State = Literal["possible", "missing", "unknown"]
_ALL: tuple[Verb, ...] = ("configure", "write", "read")
_BY_TAG = (
    ("policies set and cleared", "policymaker", "administrator"),
    ("definitions imported, or of the whole cluster", "administrator"),
)
_TO_DEFAULT = Need(verb="write", kind="exchange", name="amq.default")


class Ability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that can be done, cannot, or is not known to be."""

    name: str
    state: State = "possible"
    reason: str | None = None
    """What is missing, what it depends on, or why it is not known."""

    def __str__(self) -> str:
        return self.name if self.reason is None else f"{self.name}: {self.reason}"


def abilities(rights: Rights, tags: Iterable[str] | None) -> list[Ability]:
    """Work out what the user can do.

    Args:
        rights: Of the user, in the virtual host.
        tags: What the user is at the API; None where that is not known.

    Effect: as of Rights: where permissions cannot be read it is tried what changes nothing.
    """
    known = None if tags is None else set(tags)
    firehose = [*needs_of_own_queue(), Need(verb="read", kind="exchange", name=TRACE_EXCHANGE, routing_key="publish.")]
    return [
        _of(rights, "publish to queues", [_TO_DEFAULT]),
        _of(rights, "publish to exchanges", [], [_any("write", "exchange")]),
        _of(rights, "tail by copy", needs_of_own_queue(), [_any("read", "exchange")]),
        _by_tag("firehose", known, "administrator") or _of(rights, "firehose", firehose),
        _of(rights, "peek, hold and consume", [], [_any("read", "queue")]),
        _of(rights, "move, replay and discard", [*needs(_ALL[:1], LOCK_PREFIX), _TO_DEFAULT], [_any("read", "queue")]),
        _of(rights, "delays and retries", _ladder(), [_any("write", "queue")]),
        _of(rights, "declare and delete", [], [_any("configure", "queue"), _any("configure", "exchange")]),
        *(_by_tag(name, known, *enough) or Ability(name=name) for name, *enough in _BY_TAG),
    ]


def _ladder() -> list[Need]:
    """What the delays are made of; see docs/message-conventions.md."""
    own = [*needs(_ALL, PREFIX), *needs(_ALL, PREFIX, "exchange")]
    parking = [Need(verb=verb, kind="queue", name=PARKING) for verb in _ALL[:2]]
    return [*own, *parking, *(Need(verb=verb, kind="exchange", name=UNROUTABLE) for verb in ("configure", "read"))]


def _by_tag(name: str, tags: set[str] | None, *enough: str) -> Ability | None:
    """What is in the way of something that one of these tags is enough for, if anything."""
    if tags is None:
        return Ability(name=name, state="unknown", reason=f"needs the {enough[0]} tag, and the API does not tell tags")
    return None if tags & set(enough) else Ability(name=name, state="missing", reason=f"needs the {enough[0]} tag")


def _any(verb: Verb, kind: Kind) -> Need:
    """The right to whatever has a name: who has it to a name that nobody would think of has it to most."""
    return new_name(verb, "", kind)


def _of(rights: Rights, name: str, taken: Sequence[Need], by_name: Sequence[Need] = ()) -> Ability:
    """Hold what something takes, and what it takes for each queue or exchange by its name, against the rights."""
    if (refusal := rights.refusal(taken)) is not None:
        return Ability(name=name, state="missing", reason=refusal)
    pattern = rights.patterns
    for need in by_name:
        if pattern is not None and (getattr(pattern, need.verb) or "") in ("", "^$"):
            return Ability(name=name, state="missing", reason=f"{rights.who} may {need.verb} nothing")
    unknown = [need for need in taken if rights.may(need) is None]
    if unknown:
        return Ability(name=name, state="unknown", reason=f"whether it may {unknown[0]} cannot be found out")
    answers = {f"{need.verb} each {need.kind}": rights.may(need) for need in by_name}
    if not all(answers.values()):
        limits = " and ".join(each for each, may in answers.items() if not may)
        told = "" if pattern is None else _patterns(rights, by_name)
        return Ability(name=name, state="unknown", reason=f"depends on the name: it may not {limits}{told}")
    return Ability(name=name)


def _patterns(rights: Rights, by_name: Sequence[Need]) -> str:
    verbs = dict.fromkeys(need.verb for need in by_name)
    return f" ({', '.join(f'{verb} is {getattr(rights.patterns, verb)!r}' for verb in verbs)})"
