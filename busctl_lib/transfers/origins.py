"""The way back: where a dead letter was published, what of it is taken away, and who else would get it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from busctl_lib.broker_headers import is_broker_header
from busctl_lib.deadletters.failures import Failure
from busctl_lib.deadletters.grounds import is_ladder
from busctl_lib.deadletters.headers import RETRY_COUNTERS, failure_headers
from busctl_lib.envelope import Envelope, Properties
from busctl_lib.transfers.requests import Request
from busctl_lib.transfers.routes import Reach, RouteMap

ROUTING_HEADERS = ("CC", "BCC")
USER_ID = "user_id"


class Way(NamedTuple):
    """Where a message goes back to."""

    exchange: str
    routing_key: str
    ambiguous: Reach | None = None
    """What the way reaches, where that is more than the queue it died in, or not certain, and none was chosen."""


class NoWay(Exception):
    """A message does not say where it came from."""


def way_back(message: Envelope, failure: Failure, request: Request, routes: RouteMap | None) -> Way:
    """The route to send a message to that died.

    Args:
        message: As it will be sent.
        failure: Why and where it died.
        request: With a target, redirects or a route if they were chosen.
        routes: What routes reach; None where the bindings cannot be read.

    Raises:
        NoWay: neither the message nor the request says.
    """
    queue = failure.queue
    if request.target is not None:
        return Way("", request.target)
    if queue is not None and queue in request.redirects:
        return Way("", request.redirects[queue])
    if failure.exchange is None or request.route == "queue":
        if queue is None:
            raise NoWay("it does not say in which queue it died: name a queue with --to")
        return Way("", queue)
    keys = failure.routing_keys or [failure.routing_key or ""]
    if request.route == "original":
        return Way(failure.exchange, keys[0])
    if queue is not None and (failure.exchange == "" or is_ladder(failure.exchange)):
        return Way("", queue)  # by the queue's own name, or by the end of a delay, whatever other keys it had
    if routes is None:
        return Way(failure.exchange, keys[0])
    return _original(message, failure.exchange, keys, queue, routes)


def _original(message: Envelope, exchange: str, keys: list[str], queue: str | None, routes: RouteMap) -> Way:
    """The exchange, and of several keys the one that leads to nobody but the queue it died in."""
    found = [routes.reach(msgspec.structs.replace(message, exchange=exchange, routing_key=key)) for key in keys]
    for key, reach in zip(keys, found, strict=True):
        only = len(reach.queues) <= 1 if queue is None else set(reach.queues) <= {queue}
        if reach.sure and only and (reach.queues or len(keys) == 1):
            return Way(exchange, key)
    every = sorted({name for reach in found for name in reach.queues})
    return Way(exchange, keys[0], Reach(queues=every, sure=all(reach.sure for reach in found)))


def without_foreign_user(properties: Properties, user: str | None) -> Properties:
    """Leave out the property `user_id` where the broker would refuse it, as it does of any but the user who publishes.

    Source: https://www.rabbitmq.com/docs/validated-user-id.
    """
    if properties.user_id in (None, user):
        return properties
    return msgspec.structs.replace(properties, user_id=None)


class Cleaned(NamedTuple):
    """Properties as they are sent."""

    properties: Properties
    removed: list[str]
    """The names of what was taken away."""
    counters: list[str]
    """Headers that count attempts, and stay."""


def cleaned(properties: Properties, dialect: str) -> Cleaned:
    """Take away what the broker wrote, what tells of the failure, and what would route or be refused a second time."""
    telling = failure_headers(dialect)
    kept, removed, counters = {}, [], []
    for name, value in (properties.headers or {}).items():
        if is_broker_header(name) or name in ROUTING_HEADERS or name in telling:
            removed.append(name)
            continue
        kept[name] = value
        if name in RETRY_COUNTERS:
            counters.append(name)
    if properties.user_id is not None:
        removed.append(USER_ID)
    return Cleaned(msgspec.structs.replace(properties, headers=kept, user_id=None), removed, counters)
