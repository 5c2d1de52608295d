"""Who can reach what: bindings, alternate exchanges and dead letters of one vhost as a graph, and trees of it.

::

    found = topology_map.read(api, "/")
    found.leads_to(Place("exchange", "orders"))    # what a message that is published there can reach
    found.fed_by(Place("queue", "orders.dead"))    # where its messages can come from

A tree follows a routing key as far as it is known: dead letters that get a fixed key go only where that key leads.
Pure, but for `read`. Source: https://www.rabbitmq.com/docs/e2e, /ae, /dlx.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from busctl_lib import delays
from busctl_lib.management.alternates import alternate_of, definitions_of
from busctl_lib.management.infos import BindingInfo, ExchangeInfo, PolicyInfo, QueueInfo
from busctl_lib.management.settings import set_by
from busctl_lib.taps import keys

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient

Kind = Literal["exchange", "queue"]
Way = Literal["binding", "dead-letter", "alternate"]

DEPTH_MOST = 60
"""A tree that would go deeper is cut there."""
_COLUMNS = ("name", "vhost", "type", "state", "arguments", "effective_policy_definition", "messages", "consumers")


class Place(NamedTuple):
    """An exchange or a queue. The default exchange has the name ""."""

    kind: Kind
    name: str


class Step(NamedTuple):
    """One way from a place to the next."""

    way: Way
    source: Place
    target: Place
    key: str | None = None
    """The binding's key; the key that dead letters get, None for the one they have."""
    arguments: dict[str, Any] | None = None


class Branch(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A place in a tree, and all that lies behind it."""

    kind: Kind
    name: str
    type: str | None = None
    messages: int | None = None
    consumers: int | None = None
    missing: bool = False
    """Somebody leads here, and there is no such exchange or queue: messages are lost."""
    way: Way | None = None
    """How one comes here from the branch above; absent at the root."""
    key: str | None = None
    arguments: dict[str, Any] | None = None
    again: Literal["cycle", "shown", "deep"] | None = None
    """Why what lies behind it is left out: it is above on this path, it is shown elsewhere, it would be too deep."""
    branches: list[Branch] = msgspec.field(default_factory=list)


class _Walk:
    """One tree being drawn: what it has shown already, with which key."""

    def __init__(self) -> None:
        self.path: list[tuple[Place, str | None]] = []
        self.shown: set[tuple[Place, str | None]] = set()
        self._places: set[Place] = set()

    def has_shown(self, place: Place) -> bool:
        """Whether it is in the tree with any key."""
        return place in self._places

    def shows(self, place: Place, step: Step) -> bool:
        """Whether a step from or into `place` is drawn: the inside of the delays only where one looks at them."""
        root = self.path[0][0] if self.path else place
        return root.name.startswith(delays.PREFIX) or not (_delays(step.source) and _delays(step.target))

    def enter(self, branch: Branch, at: tuple[Place, str | None]) -> bool:
        """Note a place; tell whether what lies behind it is still to be drawn."""
        if at in self.path:
            branch.again = "cycle"
        elif at in self.shown:
            branch.again = "shown"
        elif len(self.path) >= DEPTH_MOST:
            branch.again = "deep"
        self.shown.add(at)
        self._places.add(at[0])
        return branch.again is None


class TopologyMap:
    """The exchanges, queues and ways of one vhost.

    Args:
        exchanges: All of the vhost.
        queues: All, with arguments and effective policy; without a policy known, `policies` decide.
        bindings: All; those of the default exchange are left out.
        policies: All.
    """

    def __init__(
        self,
        exchanges: Iterable[ExchangeInfo],
        queues: Iterable[QueueInfo],
        bindings: Iterable[BindingInfo],
        policies: Iterable[PolicyInfo],
    ) -> None:
        self.exchanges = {info.name: info for info in exchanges}
        self.queues = {info.name: info for info in queues}
        out: dict[Place, list[Step]] = defaultdict(list)
        into: dict[Place, list[Step]] = defaultdict(list)
        for step in _steps(self.exchanges, self.queues, bindings, list(policies)):
            out[step.source].append(step)
            into[step.target].append(step)
        self._out, self._in = dict(out), dict(into)

    @property
    def steps(self) -> list[Step]:
        """All ways, sorted."""
        return sorted((step for steps in self._out.values() for step in steps), key=_order)

    def into(self, place: Place) -> list[Step]:
        """The ways into a place, sorted."""
        return sorted(self._in.get(place, ()), key=_order)

    def out_of(self, place: Place) -> list[Step]:
        """The ways out of a place, sorted."""
        return sorted(self._out.get(place, ()), key=_order)

    def has(self, place: Place) -> bool:
        """Whether there is such an exchange or queue."""
        return place.name in (self.exchanges if place.kind == "exchange" else self.queues)

    def leads_to(self, place: Place, key: str | None = None) -> Branch:
        """Draw what a message can reach from a place on, whatever its routing key, or with a known one."""
        return self._forth(self._branch(place, None), place, key, _Walk())

    def fed_by(self, place: Place) -> Branch:
        """Draw where the messages of a place can come from."""
        return self._back(self._branch(place, None), place, place, _Walk())

    def forest(self) -> list[Branch]:
        """Draw everything once: what begins at exchanges that nothing feeds, then what remains."""
        walk = _Walk()
        trees = []
        used = [Place("exchange", name) for name in sorted(self.exchanges) if name]
        joined = self._out.keys() | self._in.keys()
        used = [place for place in used if place in joined or not place.name.startswith("amq.")]
        used = [place for place in used if not _delays(place) or place.name == delays.DELIVER]
        for place in sorted(used, key=lambda place: bool(self._in.get(place, ()))):
            if not walk.has_shown(place):
                trees.append(self._forth(self._branch(place, None), place, None, walk))
        by_name = self._branch(Place("exchange", ""), None)
        for queue in sorted(self.queues, key=lambda name: (bool(self._in.get(Place("queue", name), ())), name)):
            if not walk.has_shown(Place("queue", queue)) and not queue.startswith(delays.PREFIX):
                step = Step("binding", Place("exchange", ""), Place("queue", queue), queue)
                by_name.branches.append(self._next(step, queue, walk))
        return [*trees, by_name] if by_name.branches else trees

    def dead_letters_to(self, queue: str) -> list[str]:
        """The queues that a queue's dead letters can reach at once."""
        found: set[str] = set()
        for step in self._out.get(Place("queue", queue), ()):
            found |= {place.name for place in self.reached(step.target, step.key) if place.kind == "queue"}
        return sorted(found)

    def dead_letters_from(self, queue: str) -> list[str]:
        """The queues whose dead letters can come to a queue at once."""
        goal = Place("queue", queue)
        return sorted(
            step.source.name
            for steps in self._out.values()
            for step in steps
            if step.way == "dead-letter" and step.source != goal and goal in self.reached(step.target, step.key)
        )

    def reached(self, place: Place, key: str | None) -> set[Place]:
        """All that a message with a key (None: any) can reach from an exchange without dying."""
        found: set[Place] = set()
        seen: set[tuple[Place, str | None]] = set()
        waiting = [(place, key)]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            found.add(at[0])
            if at[0].kind == "exchange":
                waiting += [(step.target, after) for step, after in self._ways(*at)]
        return found

    # --- how

    def _ways(self, place: Place, key: str | None) -> Iterator[tuple[Step, str | None]]:
        """The ways on for a key, each with the key behind it as far as it is known."""
        if place == ("exchange", ""):
            if key is not None:
                yield Step("binding", place, Place("queue", key), key), key
            return
        if place.kind == "queue":
            for step in self._out.get(place, ()):
                yield step, key if step.key is None else step.key
            return
        kind = self.exchanges[place.name].type if place.name in self.exchanges else None
        routed = False
        for step in self._out.get(place, ()):
            if step.way == "binding" and may_match(kind, step.key or "", key):
                routed = routed or (key is not None and kind in ("direct", "topic", "fanout"))
                yield step, key if key is not None else _fixed(kind, step.key)
        if not routed:  # what is routed never comes to the alternate exchange
            yield from ((step, key) for step in self._out.get(place, ()) if step.way == "alternate")

    def _forth(self, branch: Branch, place: Place, key: str | None, walk: _Walk) -> Branch:
        ways = sorted(self._ways(place, key), key=lambda way: _order(way[0]))
        ways = [way for way in ways if walk.shows(place, way[0])]
        if not walk.enter(branch, (place, key)) or not ways:
            branch.again = branch.again if ways else None
            return branch
        walk.path.append((place, key))
        branch.branches = [self._next(step, after, walk) for step, after in ways]
        walk.path.pop()
        return branch

    def _next(self, step: Step, key: str | None, walk: _Walk) -> Branch:
        return self._forth(self._branch(step.target, step), step.target, key, walk)

    def _back(self, branch: Branch, place: Place, goal: Place, walk: _Walk) -> Branch:
        steps = [step for step in sorted(self._steps_into(place, goal), key=_order) if walk.shows(place, step)]
        if not walk.enter(branch, (place, goal.name)) or not steps:
            branch.again = branch.again if steps else None
            return branch
        walk.path.append((place, goal.name))
        for step in steps:
            source = step.source
            above = self._branch(source, step)
            branch.branches.append(self._back(above, source, source if source.kind == "queue" else goal, walk))
        walk.path.pop()
        return branch

    def _steps_into(self, place: Place, goal: Place) -> Iterator[Step]:
        """The ways into a place, but dead letters with a key that does not lead to the goal."""
        for step in self._in.get(place, ()):
            if step.way != "dead-letter" or step.key is None or goal in self.reached(place, step.key):
                yield step
        if place.kind == "queue":
            yield from (step for step in self._in.get(Place("exchange", ""), ()) if step.key == place.name)

    def _branch(self, place: Place, step: Step | None) -> Branch:
        queue = self.queues.get(place.name) if place.kind == "queue" else None
        exchange = self.exchanges.get(place.name) if place.kind == "exchange" else None
        found: QueueInfo | ExchangeInfo | None = queue or exchange
        branch = Branch(kind=place.kind, name=place.name, type=found.type if found is not None else None)
        branch.missing = found is None
        if place == ("exchange", ""):
            branch.type, branch.missing = "direct", False
        if queue is not None:
            branch.messages, branch.consumers = queue.messages, queue.consumers
        if step is not None:
            branch.way, branch.key, branch.arguments = step.way, step.key, step.arguments or None
        return branch


def read(api: ManagementClient, vhost: str) -> TopologyMap:
    """Read the topology of a vhost: four requests.

    Raises:
        ApiError, VhostNotFound: see ManagementClient.
    """
    queues = api.queues_with_rates(vhost, columns=_COLUMNS)
    return TopologyMap(api.exchanges(vhost), queues, api.bindings(vhost), api.policies(vhost))


def may_match(kind: str | None, pattern: str, key: str | None) -> bool:
    """Whether an exchange may route a key (None: any) by a binding; of headers and plug-ins' types all may."""
    if key is None or kind not in ("direct", "topic"):
        return True
    return pattern == key or (kind == "topic" and keys.matches(pattern, key))


def dead_letter_route(info: QueueInfo, policies: Iterable[PolicyInfo] = ()) -> tuple[str | None, str | None]:
    """The exchange and key that a queue's dead letters go to: no exchange where there is none, no key for their own."""
    settings = info.effective_policy_definition
    if settings is None:  # a queue that is new to the statistics
        settings = set_by(info, policies)
    arguments = info.arguments or {}
    exchange = arguments.get("x-dead-letter-exchange", settings.get("dead-letter-exchange"))
    key = arguments.get("x-dead-letter-routing-key", settings.get("dead-letter-routing-key"))
    return (exchange if isinstance(exchange, str) else None, key if isinstance(key, str) else None)


def _steps(
    exchanges: dict[str, ExchangeInfo],
    queues: dict[str, QueueInfo],
    bindings: Iterable[BindingInfo],
    policies: list[PolicyInfo],
) -> Iterator[Step]:
    for binding in bindings:
        if binding.source:  # every queue is bound to the default exchange by its name
            target = Place("queue" if binding.destination_type == "queue" else "exchange", binding.destination)
            source = Place("exchange", binding.source)
            yield Step("binding", source, target, binding.routing_key, binding.arguments)
    definitions = definitions_of(policies)
    for info in exchanges.values():
        if (alternate := alternate_of(info, definitions)) is not None:
            yield Step("alternate", Place("exchange", info.name), Place("exchange", alternate))
    for queue in queues.values():
        exchange, key = dead_letter_route(queue, policies)
        if exchange is not None:
            yield Step("dead-letter", Place("queue", queue.name), Place("exchange", exchange), key)


def _delays(place: Place) -> bool:
    return place.name.startswith(delays.PREFIX)


def _fixed(kind: str | None, pattern: str | None) -> str | None:
    """The key that every message has behind a binding; None where there may be several."""
    wild = kind == "topic" and any(word in ("*", "#") for word in (pattern or "").split("."))
    return pattern if kind in ("direct", "topic") and not wild else None


def _order(step: Step) -> tuple[bool, bool, str, str, str]:
    """Bindings first, then what becomes of the rest."""
    return (step.way == "alternate", step.way == "dead-letter", step.source.name, step.key or "", step.target.name)
