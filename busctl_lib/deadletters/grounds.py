"""What the topology says of a queue that is being read: whose dead letters come to it, and where messages only wait.

A message that waited for a delay or a retry has a death for it: it `expired`. That is no failure, and where it waited
is no place to send it back to. Waiting places are known by their names (`busctl.delay.`, Celery's, NServiceBus's), by
the topology, and by what became of the message: whoever died later than it expired had only waited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from busctl_lib import delays, topology_map
from busctl_lib.envelope import Death
from busctl_lib.errors import BusError
from busctl_lib.topology_map import Place, TopologyMap

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient, QueueInfo

EXPIRED = "expired"
_LADDER = re.compile(rf"{re.escape(delays.PREFIX)}|celery_delayed_|nsb\.(?:v\d+\.)?delay-")
"""Names of queues and exchanges that delay: ours, Celery's native delays, NServiceBus's."""


def is_ladder(name: str) -> bool:
    """Tell by its name whether an exchange or queue is part of a delay."""
    return _LADDER.match(name) is not None


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the places around one queue. Without any of it only names and the deaths themselves decide."""

    known: bool = False
    """Whether the topology could be read."""
    sources: frozenset[str] = frozenset()
    """The queues whose dead letters come to the queue that is read."""
    queues: frozenset[str] = frozenset()
    """All queues that are there."""
    waits: dict[str, list[str]] = {}
    """Queues where messages only wait, and where they go from there."""

    def death_of(self, deaths: Sequence[Death]) -> Death | None:
        """The death that a message lies in this queue for; None where it only waited, or never died.

        That is the newest in a queue which dead-letters into this one, else the newest that was no waiting.

        Args:
            deaths: The newest first.
        """
        if len(deaths) == 1 and deaths[0].reason != EXPIRED:  # most letters, and there are thousands of them
            return deaths[0]
        failed = [death for place, death in enumerate(deaths) if not self._only_waited(death, newest=place == 0)]
        failed.sort(key=self._may_have_waited)
        return next((death for death in failed if death.queue in self.sources), next(iter(failed), None))

    def after_waiting(self, deaths: Sequence[Death]) -> str | None:
        """The queue that a message which only waited was given to afterwards; None where that is not certain."""
        leads = self.waits.get(deaths[0].queue, []) if deaths else []
        return leads[0] if len(leads) == 1 else None

    def brought_by_hand(self, death: Death) -> bool:
        """Whether a message cannot have come here by dying there: somebody moved it, or the routes were changed."""
        return self.known and death.queue not in self.sources

    def _only_waited(self, death: Death, *, newest: bool) -> bool:
        waits = not newest or is_ladder(death.queue) or death.queue in self.waits
        return death.reason == EXPIRED and waits

    def _may_have_waited(self, death: Death) -> bool:
        """Whether it expired in a queue of which nothing is known: one that is gone may have been a delay's."""
        return death.reason == EXPIRED and (not self.known or death.queue not in self.queues)


NOTHING_KNOWN = Grounds()


def read(management: ManagementClient, vhost: str, queue: str) -> Grounds:
    """Read the grounds of a queue: four requests.

    Raises:
        ApiError, VhostNotFound: see ManagementClient.
    """
    return grounds_of(topology_map.read(management, vhost), queue)


def grounds_of(topology: TopologyMap, queue: str) -> Grounds:
    """Find them in a topology."""
    waits = {}
    for name, info in topology.queues.items():
        if not info.consumers and (leads := topology.dead_letters_to(name)):
            onward = [lead for lead in leads if _is_waited_for(topology, info, topology.queues.get(lead))]
            if onward or is_ladder(name):
                waits[name] = [lead for lead in leads if not is_ladder(lead)]
    return Grounds(
        known=True,
        sources=frozenset(topology.dead_letters_from(queue)),
        queues=frozenset(topology.queues),
        waits=waits,
    )


def _is_waited_for(topology: TopologyMap, waiting: QueueInfo, lead: QueueInfo | None) -> bool:
    """Whether a queue takes up what waited in another: somebody consumes it, or what fails there goes on."""
    if lead is None:
        return False
    goes_on = any(topology.out_of(Place("queue", lead.name)))
    return bool(lead.consumers) or (goes_on and (_expires(waiting) or not _expires(lead)))


def _expires(info: QueueInfo) -> bool:
    settings: dict[str, Any] = {**(info.effective_policy_definition or {}), **(info.arguments or {})}
    return "x-message-ttl" in settings or "message-ttl" in settings


class GroundsOf:
    """The grounds of one queue, read when they are first needed; unknown where that fails."""

    def __init__(self, management: ManagementClient, vhost: str, queue: str) -> None:
        self._where = (management, vhost, queue)

    @cached_property
    def value(self) -> Grounds:
        """The grounds."""
        try:
            return read(*self._where)
        except BusError:
            return NOTHING_KNOWN
