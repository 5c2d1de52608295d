"""The plan: what would go where, written so that a person can read it, edit what may be edited, and sign the rest."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.amqp.tables import Unencodable
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ApiError, ConfigError, GuardRefused
from busctl_lib.management import QueueInfo
from busctl_lib.taps.budget import PeekBudget
from busctl_lib.transfers.origins import USER_ID
from busctl_lib.transfers.protocols import LOST, protocol_of
from busctl_lib.transfers.requests import MANY_REPLAYS, OPERATION_HEADER, REPLAYS_HEADER, Request
from busctl_lib.transfers.room import Room
from busctl_lib.transfers.routes import Reach, RouteMap
from busctl_lib.transfers.targets import Aim, Aimer, Stays, difference
from busctl_lib.transfers.works import header_to_send

_SHOWN_QUEUES = 20
REFUSED = {
    "CC": "the header CC would send them to other queues as well",
    "BCC": "the header BCC would send them to other queues as well",
    USER_ID: "the broker refuses the property user_id of another user",
}
"""Why something is taken from messages that go to a queue as they are."""
_SURE = "the bindings could not be read: what does not route will be known when it is sent, and stays"


class Target(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One route of a plan."""

    exchange: str
    routing_key: str
    count: int = 0
    queues: list[str] = []
    """What it reaches just now."""
    died_in: str | None = None
    problem: str | None = None
    """Why nothing would be taken: these messages would stay."""
    choose: list[str] = []
    """Queues beside the one they died in that would get them as well: a route must be chosen."""


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an operation would do. `request` may be edited; the facts are signed."""

    operation: str
    request: Request
    vhost: str
    broker: str
    source: str
    source_type: str
    waiting: int
    """Messages that were ready when the plan was made."""
    examined: int
    """How many of them were read for it, the first ones."""
    selected: int
    undecided: int = 0
    """Of those that were read, how many `where` could not decide: they stay, or are taken where that was asked for."""
    undecided_why: dict[str, int] = {}
    """Why, and how many for that reason."""
    targets: list[Target] = []
    stays: dict[str, int] = {}
    """Why so many would stay."""
    strips: int = 0
    """Headers taken away, in all messages."""
    removes: dict[str, int] = {}
    """Which, the property user_id among them, each with how many messages have it."""
    counters: dict[str, int] = {}
    """Headers in which attempts are counted, and that stay, each with how many messages have it."""
    unwrapped: int = 0
    """Messages that lie in a report about their failure: they are sent, the report is not."""
    passes_on: list[str] = []
    """What would not stay where it is sent: it expires there and goes on."""
    adds: list[str] = []
    replayed_before: int = 0
    most_replays: int = 0
    warnings: list[str] = []
    overfull: list[str] = []
    """Why messages would be dropped where they arrive."""
    diff: list[str] = []
    """What `--edit` makes of the first message."""
    made_at: float = 0.0
    messages: str | None = None
    """The fixed set: identities in base64; absent where it is a number of messages."""
    signature: str = ""

    @property
    def fixed(self) -> Counter[bytes] | None:
        """The fixed set by identity."""
        if self.messages is None:
            return None
        packed = base64.b64decode(self.messages)
        return Counter(packed[place : place + 16] for place in range(0, len(packed), 16))

    @property
    def ambiguous(self) -> list[Target]:
        """Routes that must be chosen first."""
        return [target for target in self.targets if target.choose]

    def sign(self) -> Plan:
        """Write the signature of its facts."""
        self.signature = self._sum()
        return self

    def _sum(self) -> str:
        facts = msgspec.structs.asdict(self)
        del facts["request"], facts["signature"]
        return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()

    def require_safe(self) -> None:
        """Refuse what would be dropped where it arrives, unless that was accepted, and a replay to be decided first.

        Raises:
            GuardRefused: a queue on the way is too full; or the route reaches services which had succeeded, and was
                not chosen.
        """
        if self.overfull and not self.request.accept_loss:
            raise GuardRefused(
                self.overfull[0],
                hint="raise its limit, take fewer with --limit, or --accept-loss",
                overfull=self.overfull,
            )
        if self.request.route is None and self.ambiguous:
            first = self.ambiguous[0]
            where = f"exchange {first.exchange!r}, key {first.routing_key!r} reaches"
            if first.died_in is not None:
                raise GuardRefused(
                    f"{where} other queues than {first.died_in!r}: {', '.join(first.choose)}",
                    hint="--route original sends to all of them again, --route queue only to the one it died in",
                    targets=self.ambiguous,
                )
            raise GuardRefused(
                f"{where} {', '.join(first.choose)}, and the message does not tell in which of them it died",
                hint="--route original sends to all of them again, --to QUEUE to one",
                targets=self.ambiguous,
            )

    def write(self, path: Path) -> None:
        """Write it as JSON. Raises ConfigError."""
        try:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        except OSError as error:
            raise ConfigError(f"the plan cannot be written to {path}: {error.strerror}") from error


def read_plan(path: Path) -> Plan:
    """Read a plan that was written, and perhaps edited.

    Raises:
        ConfigError: it is not one. GuardRefused: its facts were changed.
    """
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        hint = "`--dry-run --plan FILE` writes one"
        raise ConfigError(f"the plan {path} cannot be read: {error.strerror}", hint=hint) from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is not a plan: {error}") from error
    if plan.signature != plan._sum():
        raise GuardRefused(
            f"the facts of the plan {path} were changed after it was made",
            hint="edit what stands under `request`; for other facts make a new plan",
        )
    return plan


def pack_set(identities: Iterable[bytes]) -> str:
    """A fixed set as text."""
    return base64.b64encode(b"".join(sorted(identities))).decode()


class Sums:
    """Sums up messages while they are read, for a plan.

    Args:
        aimer: Where each goes.
        routes: What its way reaches; None where the bindings cannot be read.
        request: What shall happen.
        fits: Raises Unencodable for properties that the link could not send.
    """

    def __init__(
        self, aimer: Aimer, routes: RouteMap | None, request: Request, *, fits: Callable[[bytes], None]
    ) -> None:
        self.identities: Counter[bytes] = Counter()
        self.examined = 0
        self.selected = 0
        self._aimer, self._routes, self._request, self._fits = aimer, routes, request, fits
        self._targets: dict[tuple[str, str, str | None], Target] = {}
        self.room = Room()
        self._stays: Counter[str] = Counter()
        self._removes: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._passes_on: dict[str, str] = {}
        self._ends: dict[tuple[str, str, str | None], dict[str, str]] = {}
        self._expiring: Counter[tuple[str, str]] = Counter()
        self._protocols: Counter[str] = Counter()
        self._before = self._most = self._unwrapped = 0
        self._diff: list[str] = []
        self._warnings: list[str] = []

    def add(self, delivery: Delivery, known_as: bytes) -> None:
        """Count a message that is selected."""
        self.selected += 1
        self.identities[known_as] += 1
        if (protocol := protocol_of(delivery)) is not None:
            self._protocols[protocol] += 1
        try:
            aim = self._aimer.aim(delivery)
            self._fits(header_to_send(delivery, aim))
        except (Stays, Unencodable) as error:
            self._stays[str(error)] += 1
            return
        if self._request.edit and not self._diff:
            self._diff = difference(delivery, aim.envelope)
        self._removes.update(aim.removed)
        self._counters.update(aim.counters)
        self._unwrapped += aim.unwrapped
        self._before += aim.replays > 0
        self._most = max(self._most, aim.replays)
        self._count(aim)

    def _count(self, aim: Aim) -> None:
        key = (aim.envelope.exchange, aim.envelope.routing_key, aim.died_in)
        target = self._targets.get(key)
        if target is None:
            target = Target(exchange=key[0], routing_key=key[1], died_in=aim.died_in)
            self._targets[key] = target
            self._look_at(target, aim, key)
        target.count += 1
        self.room.add(key, len(aim.envelope.body))
        if aim.envelope.properties.expiration is not None:
            self._expiring.update(self._ends.get(key, {}).items())

    def _look_at(self, target: Target, aim: Aim, key: tuple[str, str, str | None]) -> None:
        if self._discards:
            return
        reach = self._reach(aim)
        target.queues = reach.queues[:_SHOWN_QUEUES]
        self.room.open(key, reach.limits)
        self._passes_on |= reach.passes_on
        self._ends[key] = reach.ends
        if reach.queues or self._request.kind != "park":  # a parking queue is declared where it is absent
            target.problem = reach.obstacle(exact=not self._request.fast)
        if aim.ambiguous is not None:
            others = [name for name in aim.ambiguous.queues if name != aim.died_in]
            target.queues = aim.ambiguous.queues[:_SHOWN_QUEUES]
            target.choose = others[:_SHOWN_QUEUES] or ["(only the broker knows)"]

    @property
    def _discards(self) -> bool:
        return self._request.kind == "discard" or self._request.discard

    def _reach(self, aim: Aim) -> Reach:
        try:
            return self._routes.reach(aim.envelope) if self._routes is not None else Reach()
        except ApiError:
            if _SURE not in self._warnings:
                self._warnings.append(_SURE)
            return Reach()

    def plan(self, **facts: Any) -> Plan:
        """The plan of what was added."""
        warnings = list(self._warnings)
        if not self._discards:
            for protocol, count in self._protocols.items():
                warnings.append(f"{count:,} came by {protocol}: {LOST[protocol]}")
        replays = self._request.kind == "replay"
        if self._most + 1 >= MANY_REPLAYS and replays:
            warnings.append(
                f"{self._before:,} were replayed before, one of them {self._most} times: one more will hardly help"
            )
        if not replays:
            when = " when they are put back" if self._discards else ""
            taken = sorted(self._removes.items())
            warnings += [f"{REFUSED[name]}: taken from {count:,}{when}" for name, count in taken]
        return Plan(
            request=self._request,
            examined=self.examined,
            selected=self.selected,
            targets=sorted(self._targets.values(), key=lambda target: -target.count),
            stays=dict(self._stays),
            strips=self._removes.total() - self._removes[USER_ID] if replays else 0,
            removes=dict(sorted(self._removes.items())),
            counters=dict(sorted(self._counters.items())),
            unwrapped=self._unwrapped,
            passes_on=self._onward(),
            adds=[OPERATION_HEADER, REPLAYS_HEADER] if replays else [],
            replayed_before=self._before,
            most_replays=self._most,
            warnings=warnings,
            diff=self._diff,
            made_at=time.time(),
            **facts,
        )

    def _onward(self) -> list[str]:
        """What would not stay where it is sent, a sentence a queue."""
        said = [f"{name}: {what}" for name, what in self._passes_on.items()]
        for (name, ends), count in self._expiring.items():
            have = "1 message has" if count == 1 else f"{count:,} messages have"
            said.append(f"{name}: {have} an expiration, and what is not taken by then {ends}")
        return sorted(said)


def special(plan: Plan, info: QueueInfo, *, whole: bool, budget: PeekBudget, trash_keeps: int | None) -> Iterator[str]:
    """What else is to be known before.

    Args:
        plan: Whose `warnings` these become.
        info: The source.
        whole: Whether all of the source was read.
        budget: The source's peek budget.
        trash_keeps: How many messages go into the trash at most; None where nothing does.
    """
    request = plan.request
    if not whole:
        yield f"the first {plan.examined:,} of {plan.waiting:,} messages were read for this plan"
    if info.type == "quorum":
        yield f"a quorum queue: {budget.costs}"
        if budget.retry is not None and budget.retry.delays_returned:
            yield f"what is read and does not leave the queue is hidden for {budget.retry.text} (delayed retry)"
        if request.rewrite:
            yield "what does not match is written anew: it loses its exchange and key"
    elif request.selects or not request.takes:
        yield "what is left alone is invisible meanwhile and marked redelivered afterwards"
    if info.delayed:
        yield f"{info.delayed:,} messages wait for their retry (delayed): nobody can take them, and they stay"
    if trash_keeps is not None and plan.selected > trash_keeps:
        yield f"the trash keeps the first {trash_keeps:,} only: the rest cannot be put back"
    if info.consumers:
        take = "1 consumer takes" if info.consumers == 1 else f"{info.consumers} consumers take"
        yield f"{take} messages from {info.name} as well"


def require_same(made: Plan, now: Plan, found: Counter[bytes]) -> None:
    """Refuse a plan that the queue no longer fits.

    Args:
        made: As it was written.
        now: As it would be made now.
        found: All that is in the queue now, by identity.

    Raises:
        GuardRefused: messages of the plan are gone, or a route leads elsewhere.
    """
    if (made.source, made.vhost, made.broker) != (now.source, now.vhost, now.broker):
        raise ConfigError(f"the plan is for {made.source!r} in vhost {made.vhost!r} of {made.broker}")
    missing = ((made.fixed or Counter()) - found).total()
    if missing:
        raise GuardRefused(
            f"{missing:,} of the {made.selected:,} messages of the plan are no longer in {made.source}",
            hint="make a new plan",
        )
    routes = {(target.exchange, target.routing_key): target for target in now.targets}
    for target in made.targets:
        current = routes.get((target.exchange, target.routing_key))
        if current is not None and (current.queues, current.problem) != (target.queues, target.problem):
            raise GuardRefused(
                f"exchange {target.exchange!r}, key {target.routing_key!r} leads elsewhere than when the plan was made",
                hint="make a new plan",
            )
