"""What a message becomes: where it goes and what is taken from it and added to it; or why it stays."""

from __future__ import annotations

import difflib

import msgspec

from busctl_lib.deadletters.dialects import Failure, failure_of, is_failure_header
from busctl_lib.documents import document, to_json
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.errors import ExpressionFailed
from busctl_lib.expressions import Expression, GuardedExpression
from busctl_lib.journal import steady
from busctl_lib.transfers.requests import OPERATION_HEADER, REPLAYS_HEADER, Request
from busctl_lib.transfers.routes import Reach, RouteMap

_ROUTING_HEADERS = ("CC", "BCC")


class Stays(Exception):
    """A message cannot go anywhere: `str` says why. It stays where it is."""


class Aim(msgspec.Struct):
    """Where one message goes."""

    envelope: Envelope
    died_in: str | None = None
    stripped: int = 0
    """Headers taken away."""
    replays: int = 0
    """How often it was replayed before."""
    as_it_is: bool = True
    """Whether the properties are the message's own."""
    ambiguous: Reach | None = None
    """The original route, where it reaches other queues than the one it died in, and no route was chosen."""


class Aimer:
    """Turns deliveries into what is sent, for one operation.

    Args:
        request: What shall happen.
        operation: The operation's id.
        routes: The vhost's routes; None where they cannot be read.
    """

    def __init__(self, request: Request, operation: str, routes: RouteMap | None) -> None:
        self._request = request
        self._operation = operation
        self._routes = routes
        self._edit = GuardedExpression(Expression(request.edit, "--edit")) if request.edit else None

    def close(self) -> None:
        """End what it started."""
        if self._edit is not None:
            self._edit.close()

    def aim(self, delivery: Delivery) -> Aim:
        """Where it goes.

        Raises:
            Stays: nowhere.
        """
        request = self._request
        if request.kind == "replay":
            aim = self._replay(delivery)
        else:
            target, properties = request.target or "", steady(delivery.properties)
            aim = Aim(Envelope(exchange="", routing_key=target, properties=properties, body=delivery.body))
            if properties is not delivery.properties:
                aim.stripped = "CC" in delivery.headers
        if self._edit is not None:
            aim.envelope.body = edited(self._edit, delivery)
        return aim

    def _replay(self, delivery: Delivery) -> Aim:
        failure = failure_of(delivery)
        ambiguous = None
        if self._request.target is not None:
            exchange, key = "", self._request.target
        elif failure.queue is not None and failure.queue in self._request.redirects:
            exchange, key = "", self._request.redirects[failure.queue]
        else:
            exchange, key, ambiguous = self._origin(delivery, failure)
        properties = msgspec.structs.replace(delivery.properties, user_id=None)
        kept = {
            name: value
            for name, value in (properties.headers or {}).items()
            if not (name.startswith("x-") or name in _ROUTING_HEADERS or is_failure_header(name))
        }
        stripped = len(properties.headers or {}) - len(kept)
        kept[OPERATION_HEADER] = self._operation
        kept[REPLAYS_HEADER] = failure.seen_again + 1
        properties.headers = kept
        envelope = Envelope(exchange=exchange, routing_key=key, properties=properties, body=delivery.body)
        return Aim(envelope, failure.queue, stripped, failure.seen_again, False, ambiguous)

    def _origin(self, delivery: Delivery, failure: Failure) -> tuple[str, str, Reach | None]:
        """The route back, and whether it must be chosen first."""
        route, queue = self._request.route, failure.queue
        if route == "queue" or failure.exchange is None:
            if queue is None:
                raise Stays("it does not say where it came from: name a queue with --to")
            return "", queue, None
        exchange, key = failure.exchange, failure.routing_key or ""
        if route == "original" or self._routes is None or exchange == "" or queue is None:
            return exchange, key, None
        reach = self._routes.reach(
            Envelope(exchange=exchange, routing_key=key, properties=delivery.properties, body=b"")
        )
        others = [name for name in reach.queues if name != queue]
        return exchange, key, reach if others or not reach.sure else None


def edited(edit: GuardedExpression, delivery: Delivery) -> bytes:
    """The body that `--edit` makes of a message.

    Raises:
        Stays: the expression fails on it, or jq would change what it was not asked to change.
    """
    found = document(delivery)
    if "body" not in found:
        raise Stays("--edit needs a JSON body")
    try:
        same = Expression(".", "--edit").first(found["body"])
    except ExpressionFailed as error:
        raise Stays(f"--edit cannot read the body: {error}") from None
    if _canonical(same) != _canonical(found["body"]):
        raise Stays("--edit would change numbers of the body that jq cannot hold")
    results = edit.results([to_json(delivery)])[0]
    if not results:
        raise Stays(f"--edit gives nothing{f': {edit.trouble}' if edit.trouble else ''}")
    if len(results) > 1:
        raise Stays(f"--edit gives {len(results)} results, and a message has one body")
    after = msgspec.json.decode(results[0])
    if isinstance(after, dict) and {"body", "exchange", "routing_key"} <= after.keys():
        after = after["body"]  # `.body.x = 1` gives the whole document back
    return msgspec.json.encode(after)


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def difference(before: bytes, after: bytes) -> list[str]:
    """A unified diff of two JSON bodies, a line a line."""

    def lines(body: bytes) -> list[str]:
        try:
            return msgspec.json.format(body, indent=2).decode().splitlines()
        except msgspec.MsgspecError:
            return body.decode("utf-8", "backslashreplace").splitlines()

    return list(difflib.unified_diff(lines(before), lines(after), "before", "after", lineterm=""))


def reason_for(envelope: Envelope, problem: str | None) -> str:
    """Why a message was not taken, naming its route."""
    where = f"exchange {envelope.exchange!r}, key {envelope.routing_key!r}"
    return f"{where}: {problem or 'no queue takes it'}"
