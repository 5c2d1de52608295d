"""What becomes of a message whose handler failed: tried again after a delay, or put into the dead-letter queue."""

from __future__ import annotations

import enum
import logging

from busctl_lib.consumers.running import Running
from busctl_lib.dead_names import dead_letter_queue
from busctl_lib.envelope import Delivery, Envelope
from busctl_lib.errors import BrokerRefused, BusError, PublishRefused, Unroutable
from busctl_lib.publishers import MessagePublisher
from busctl_lib.retry import RetryPolicy, attempts_of, failed_copy

logger = logging.getLogger(__name__)

_PAUSES_S = (0.2, 1.0, 5.0)
"""Between attempts at getting a copy to the broker; its message stays where it is meanwhile."""


class Reject(Exception):
    """Raised by a handler: this message must not be tried again. It goes to the dead-letter queue."""


class Fate(enum.Enum):
    """What became of a failed message."""

    RETRIED = "retried"
    """The broker has its copy for the next attempt; the message is to be acked."""
    BURIED = "buried"
    """The broker has its copy in the dead-letter queue; the message is to be acked."""
    REJECTED = "rejected"
    """There is no dead-letter queue of ours: the message is to be rejected."""
    KEPT = "kept"
    """It goes back to its queue: the link is gone, or its consumer stops."""


class Failures:
    """Sends failed messages where they belong.

    Args:
        publisher: of the broker they came from.
        policy: None: each goes to the dead-letter queue at once.
    """

    def __init__(self, publisher: MessagePublisher, policy: RetryPolicy | None) -> None:
        self._publisher = publisher
        self._policy = policy

    def settle(self, delivery: Delivery, error: BaseException, running: Running, *, final: bool) -> Fate:
        """Publish the copy of a failed message and wait until the broker has it, however long that takes.

        Args:
            final: another attempt would fail as well.
        """
        attempt = attempts_of(delivery.properties.headers) + 1
        policy = None if final else self._policy
        if policy is not None and attempt < policy.max_attempts:
            fate = self._retry(delivery, error, attempt, policy.delay_s(attempt), running)
            if fate is not Fate.REJECTED:
                return fate
        copy = failed_copy(delivery, error, attempt, stack=True)
        copy.exchange, copy.routing_key = "", dead_letter_queue(delivery.queue or "")
        return self._send(copy, 0.0, Fate.BURIED, delivery, running)

    def _retry(self, delivery: Delivery, error: BaseException, attempt: int, delay_s: float, running: Running) -> Fate:
        copy = failed_copy(delivery, error, attempt, stack=False)
        copy.exchange, copy.routing_key = "", delivery.queue or ""
        return self._send(copy, delay_s, Fate.RETRIED, delivery, running)

    def _send(self, copy: Envelope, delay_s: float, fate: Fate, delivery: Delivery, running: Running) -> Fate:
        tries = 0
        while True:
            try:
                self._publisher.publish_delayed(copy, delay_s)
            except (Unroutable, PublishRefused, BrokerRefused) as error:
                logger.info("message %r cannot be %s: %s", copy.properties.message_id, fate.value, error)
                return Fate.REJECTED
            except BusError as error:  # full, away, or unknown: a second copy is better than none
                logger.warning("message %r is not %s yet: %s", copy.properties.message_id, fate.value, error)
            else:
                return fate
            if not running.holds(delivery, _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]):
                return Fate.KEPT
            tries += 1
