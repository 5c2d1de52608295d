"""What a dead letter says of its failure: in its framework's words, completed by what the broker says of its deaths."""

from __future__ import annotations

from busctl_lib.deadletters.bodies import read_body
from busctl_lib.deadletters.failures import Failure as Failure
from busctl_lib.deadletters.grounds import NOTHING_KNOWN, Grounds
from busctl_lib.deadletters.headers import read_headers
from busctl_lib.envelope import Death, Envelope, deaths_of
from busctl_lib.retry import replays_of

_SHOVELLED = frozenset({"x-shovelled", "x-opt-shovelled-by"})


def failure_of(envelope: Envelope, grounds: Grounds = NOTHING_KNOWN) -> Failure:
    """Decode why a message failed, and where. Never raises: what is not understood is absent.

    Args:
        envelope: The dead letter.
        grounds: Of the queue that it lies in; without them the deaths alone decide.
    """
    headers = envelope.headers
    failure = read_headers(headers) or read_body(envelope.body) or Failure(dialect="none")
    if deaths := deaths_of(headers):
        if failure.dialect == "none":
            failure.dialect = "rabbitmq"
        _complete(failure, deaths, grounds)
    if failure.reason is None and (failure.error_type or failure.error):
        failure.reason = "error"
    failure.seen_again = replays_of(headers)
    failure.shovelled = not _SHOVELLED.isdisjoint(headers)
    return failure


def _complete(failure: Failure, deaths: list[Death], grounds: Grounds) -> None:
    death = grounds.death_of(deaths)
    if death is None:
        failure.queue = failure.queue or grounds.after_waiting(deaths)
        return
    failure.reason = failure.reason or death.reason or None
    failure.queue = failure.queue or death.queue
    failure.failed_at = failure.failed_at or death.time
    failure.deaths = death.count or 1
    failure.moved = failure.dialect == "rabbitmq" and grounds.brought_by_hand(death)
    if failure.exchange is None:
        failure.exchange = death.exchange
        failure.routing_keys = death.routing_keys
        failure.routing_key = death.routing_keys[0] if death.routing_keys else failure.routing_key
