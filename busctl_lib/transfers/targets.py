"""What a message becomes: where it goes and what is taken from it and added to it; or why it stays."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import msgspec

from busctl_lib.codecs import NOT_JSON, Body, Keyring
from busctl_lib.deadletters.dialects import Failure, failure_of
from busctl_lib.documents import body_of, to_json
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.errors import CodecError, ExpressionFailed
from busctl_lib.expressions import Expression, GuardedExpression
from busctl_lib.journal import steady
from busctl_lib.transfers.origins import ROUTING_HEADERS, USER_ID, NoWay, cleaned, way_back, without_foreign_user
from busctl_lib.transfers.requests import OPERATION_HEADER, REPLAYS_HEADER, Request
from busctl_lib.transfers.routes import Reach, RouteMap


class Stays(Exception):
    """A message cannot go anywhere: `str` says why. It stays where it is."""


class Aim(msgspec.Struct):
    """Where one message goes."""

    envelope: Envelope
    died_in: str | None = None
    removed: list[str] = []
    """The names of headers that are taken away, and of the property user_id."""
    counters: list[str] = []
    """The names of headers that count attempts, and stay."""
    replays: int = 0
    """How often it was replayed before."""
    as_it_is: bool = True
    """Whether the properties are the message's own."""
    unwrapped: bool = False
    """Whether it lay in a report about its failure, which stays behind."""
    ambiguous: Reach | None = None
    """What the original route reaches, where that is more than the queue it died in, and no route was chosen."""


class Aimer:
    """Turns deliveries into what is sent, for one operation.

    Args:
        request: What shall happen.
        operation: The operation's id.
        routes: The vhost's routes; None where they cannot be read.
        died: Tells why and where a message of the source died.
        user: Who publishes: the broker refuses a message with another one's `user_id`.
        keys: To decrypt bodies with, for --edit.
    """

    def __init__(
        self,
        request: Request,
        operation: str,
        routes: RouteMap | None,
        *,
        died: Callable[[Delivery], Failure] = failure_of,
        user: str | None = None,
        keys: Keyring | None = None,
    ) -> None:
        self._request = request
        self._operation = operation
        self._routes = routes
        self._died = died
        self._user = user
        self._keys = keys
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
        aim = self._replay(delivery) if self._request.kind == "replay" else self._elsewhere(delivery)
        if self._edit is not None:
            sent = aim.envelope
            inner = msgspec.structs.replace(delivery, properties=sent.properties, body=sent.body)
            aim.envelope.body = edited(self._edit, inner if aim.unwrapped else delivery, self._keys)
        return aim

    def _elsewhere(self, delivery: Delivery) -> Aim:
        """To the target as it is, but for more keys to route by and another user's name."""
        properties = without_foreign_user(steady(delivery.properties), self._user)
        removed = [name for name in ROUTING_HEADERS if name in delivery.headers]
        foreign = properties.user_id != delivery.properties.user_id
        removed += [USER_ID] * foreign
        target = self._request.target or ""
        envelope = Envelope(exchange="", routing_key=target, properties=properties, body=delivery.body)
        return Aim(envelope, removed=removed, as_it_is=not foreign)

    def _replay(self, delivery: Delivery) -> Aim:
        failure = self._died(delivery)
        message = failure.inner or Envelope(
            exchange="", routing_key="", properties=delivery.properties, body=delivery.body
        )
        try:
            way = way_back(message, failure, self._request, self._routes)
        except NoWay as error:
            raise Stays(str(error)) from None
        clean = cleaned(message.properties, failure.dialect)
        clean.properties.headers = {
            **(clean.properties.headers or {}),
            OPERATION_HEADER: self._operation,
            REPLAYS_HEADER: failure.seen_again + 1,
        }
        envelope = Envelope(
            exchange=way.exchange, routing_key=way.routing_key, properties=clean.properties, body=message.body
        )
        return Aim(
            envelope,
            died_in=failure.queue,
            removed=clean.removed,
            counters=clean.counters,
            replays=failure.seen_again,
            as_it_is=False,
            unwrapped=failure.inner is not None,
            ambiguous=way.ambiguous,
        )


def edited(edit: GuardedExpression, delivery: Delivery, keys: Keyring | None = None) -> bytes:
    """The body that `--edit` makes of a message: in the character set it had, compressed as it was.

    Raises:
        Stays: the expression fails on it, or it or jq would change what it was not asked to change.
    """
    body = body_of(delivery, keys)
    if body.value is NOT_JSON:
        raise Stays(f"--edit needs a JSON body ({body.why})")
    try:
        same = Expression(".", "--edit").first(body.value)
    except ExpressionFailed as error:
        raise Stays(f"--edit cannot read the body: {error}") from None
    if _canonical(same) != _canonical(body.value):
        raise Stays("--edit would change numbers of the body that jq cannot hold")
    results = edit.results([to_json(delivery, keys=keys)])[0]
    if not results:
        raise Stays(f"--edit gives nothing{f': {edit.trouble}' if edit.trouble else ''}")
    if len(results) > 1:
        raise Stays(f"--edit gives {len(results)} results, and a message has one body")
    after = msgspec.json.decode(results[0])
    if isinstance(after, dict) and {"body", "exchange", "routing_key"} <= after.keys():
        after = after["body"]  # `.body.x = 1` gives the whole document back
    if _canonical(after) == _canonical(body.value):
        return delivery.body
    try:
        return body.rewritten(msgspec.json.encode(after).decode())
    except CodecError as error:
        raise Stays(f"--edit cannot write the body as it was: {error}") from None


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def difference(before: Envelope, after: Envelope) -> list[str]:
    """A unified diff of the JSON bodies of two messages, a line a line."""

    def lines(envelope: Envelope) -> list[str]:
        text = Body(envelope).printed
        try:
            return msgspec.json.format(text, indent=2).splitlines()
        except (msgspec.MsgspecError, RecursionError):
            return text.splitlines()

    return list(difflib.unified_diff(lines(before), lines(after), "before", "after", lineterm=""))


def reason_for(envelope: Envelope, problem: str | None) -> str:
    """Why a message was not taken, naming its route."""
    where = f"exchange {envelope.exchange!r}, key {envelope.routing_key!r}"
    return f"{where}: {problem or 'no queue takes it'}"
