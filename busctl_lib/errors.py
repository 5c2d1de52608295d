"""Every error this library raises, as one tree.

::

    BusError
    ├── ConfigError                a setting that cannot be used: which, where from, what is right
    │   └── ExpressionInvalid      jq does not understand an expression (line, column, picture)
    ├── ExpressionFailed           an expression has no result for a value
    ├── CannotConnect              no link to the broker (address, reason)
    │   ├── LoginRefused           the broker knows the user not, or not by this password
    │   ├── VhostNotFound          the virtual host is not there, or not for this user
    │   └── LinkLost               there was a link; it is gone and what was asked did not finish
    ├── BrokerRefused              the broker answered no (code, text)
    │   ├── NotFound               404: no such queue or exchange
    │   ├── QueueAway              it is there, but its node is down, or it has no majority (queue, why)
    │   ├── AccessForbidden        403: this user may not
    │   ├── ResourceLocked         405: exclusive to another connection
    │   └── PreconditionFailed     406: it exists, otherwise declared; or a limit
    ├── PublishFailed              a publish that was not CONFIRMED (outcome)
    │   ├── Unroutable             RETURNED: no queue took it
    │   ├── Nacked                 NACKED: a queue refused it (full) or failed
    │   ├── PublishRefused         REFUSED: not sent, and sending it again as it is will not help
    │   ├── NeverSent              NEVER_SENT: did not leave the process in time
    │   └── OutcomeUnknown         UNKNOWN: sent, and the link died before the confirm
    │       └── NoConfirm          UNKNOWN: sent, and no confirm came before the deadline
    ├── RpcFailed                  a call that brought no result
    │   ├── NoResponder            no such queue, or no consumer at the deadline (queue)
    │   ├── ReplyTimeout           no reply within the deadline (queue)
    │   └── RemoteError            the reply is an error (type, text)
    ├── InvalidMessage             against its schema (field, expected, found)
    ├── CodecError                 a body that cannot be encoded or decoded
    │   ├── UnknownEncoding        content_encoding names a step not known here
    │   ├── BodyTooLarge           more would come out than the reader allows
    │   ├── Truncated              compressed or encrypted data that ends early
    │   ├── UnknownKey             encrypted, and the key is not held
    │   ├── WrongKey               encrypted by another key than the one held under that id
    │   ├── WrongMessage           encrypted for another message
    │   └── Tampered               encrypted, and changed on its way
    ├── TimedOut                   an operation ran into its deadline
    │   └── ExpressionTimedOut     an expression computed for too long, or needed too much memory
    ├── GuardRefused               one of our own guards said no; nothing was done
    ├── ApiError                   the management API answered with an error (status)
    │   ├── ApiUnreachable         it did not answer
    │   ├── ApiLoginRefused        401
    │   └── ApiForbidden           403: a tag or permission is missing
    └── SandboxError               a private node did not start

Each carries its facts as attributes and, in `hint`, what the reader can do next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class BusError(Exception):
    """Root of the tree. `str(error)` is one sentence; `hint` says what to do next, if anything."""

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """The sentence without the hint."""
        return str(self)


class ConfigError(BusError):
    """A setting that cannot be used."""


class ExpressionInvalid(ConfigError):
    """jq does not understand it. Facts: `expression`, `line`, `column` (from 1), `picture`: a caret under the place."""

    picture: str = ""


class ExpressionFailed(BusError):
    """A jq expression failed on a value. Facts: `expression`."""


class CannotConnect(BusError):
    """No link to the broker. Facts: `address`, `reason`."""


class LoginRefused(CannotConnect):
    """The broker does not accept the user or the password."""


class VhostNotFound(CannotConnect):
    """The virtual host does not exist, or this user has no access to it."""


class LinkLost(CannotConnect):
    """The link was there and is gone; what was asked did not finish."""


class BrokerRefused(BusError):
    """The broker answered with an AMQP error. Facts: `code` (AMQP reply code), `text`."""

    code: int = 0
    text: str = ""


class NotFound(BrokerRefused):
    """404: no such queue, exchange, or (API) object."""


class QueueAway(BrokerRefused):
    """The queue is there and cannot be reached now: its node is down, it has no majority. Facts: `queue`, `why`."""

    queue: str = ""
    why: str = ""

    @classmethod
    def because(cls, queue: str, why: str, **facts: Any) -> QueueAway:
        """The error for a queue that cannot be reached; `why` ends the sentence "it is there, but"."""
        return cls(f"queue {queue!r} is there, but {why}", queue=queue, why=why, **facts)


class AccessForbidden(BrokerRefused):
    """403: this user may not do that."""


class ResourceLocked(BrokerRefused):
    """405: the queue is exclusive to another connection."""


class PreconditionFailed(BrokerRefused):
    """406: it exists with other arguments, or a limit is passed."""


class ConsumerTimedOut(PreconditionFailed):
    """The broker took back what a consumer held unsettled for longer than its timeout. Facts: `queue`, `held_s`.

    Up to 4.2 it closes the channel with 406, and all that was held there counts as delivered without success. From 4.3
    on it cancels the consumer, and that counts nothing; it does not say why (no `code`), and does so as well when the
    queue is deleted and declared again.
    """


class PublishFailed(BusError):
    """A publish whose outcome is not CONFIRMED. Facts: `outcome`, `exchange`, `routing_key`, `message_id`, `text`."""


class Unroutable(PublishFailed):
    """RETURNED: no queue took the message."""


class Nacked(PublishFailed):
    """NACKED: a queue did not take it (full with reject-publish, or failed)."""


class PublishRefused(PublishFailed):
    """REFUSED: the message was not accepted and will not be as it is."""


class NeverSent(PublishFailed):
    """NEVER_SENT: it did not leave this process before its deadline; sending it again cannot double it."""


class OutcomeUnknown(PublishFailed):
    """UNKNOWN: it was sent and the link died before the confirm; the broker may have it."""


class NoConfirm(OutcomeUnknown):
    """UNKNOWN: it was sent and no confirm came before its deadline; the broker may have it, or get it yet."""


class RpcFailed(BusError):
    """A call that brought no result."""


class NoResponder(RpcFailed):
    """Nobody answers there: no such queue, or no consumer on it at the deadline. Facts: `queue`."""


class ReplyTimeout(RpcFailed):
    """No reply within the deadline, though somebody consumes. Facts: `queue`, `timeout_s`."""


class RemoteError(RpcFailed):
    """The other side replied with an error. Facts: `type`, `text`, `reply`."""


class InvalidMessage(BusError):
    """A message that its schema does not allow. Facts: `field`, `expected`, `found`, `action`."""


class CodecError(BusError):
    """A body that cannot be encoded or decoded."""


class UnknownEncoding(CodecError):
    """`content_encoding` names a step not known here. Facts: `encoding`."""


class BodyTooLarge(CodecError):
    """More would come out of a body than its reader allows. Facts: `limit` (bytes)."""


class Truncated(CodecError):
    """Compressed or encrypted data that ends early."""


class UnknownKey(CodecError):
    """The body is encrypted and its key is not held. Facts: `key_id`."""


class WrongKey(CodecError):
    """The body was encrypted by another key than the one held under that id. Facts: `key_id`."""


class WrongMessage(CodecError):
    """The body was encrypted for another message: replayed, or its properties were changed. Facts: `key_id`."""


class Tampered(CodecError):
    """The encrypted body was changed on its way. Facts: `key_id`."""


class TimedOut(BusError):
    """An operation did not finish before its deadline."""


class ExpressionTimedOut(TimedOut):
    """A jq expression computed for too long, or needed too much memory, and was stopped. Facts: `expression`."""


class GuardRefused(BusError):
    """Refused by a guard of ours (read-only, production, peek budget, a tap that would harm): nothing was done."""


class ApiError(BusError):
    """The management API answered with an error. Facts: `status` (HTTP), `url` without credentials."""

    status: int = 0


class ApiUnreachable(ApiError):
    """The management API did not answer."""


class ApiLoginRefused(ApiError):
    """401: the API does not accept the user or the password."""


class ApiForbidden(ApiError):
    """403: the user lacks a tag or a permission."""


class SandboxError(BusError):
    """A private node did not start; the text ends with the node's own last log lines."""


@contextlib.contextmanager
def about(queue: str | None) -> Iterator[None]:
    """Let an error that may come of a queue's own state name the queue: fact `queue`."""
    try:
        yield
    except (TimedOut, LinkLost) as error:
        if queue:
            error.facts["queue"] = queue
            error.hint = error.hint or f"has queue {queue!r} lost its node or its majority?"
        raise
