"""Where replies come in: direct reply-to, or an exclusive queue where the broker has no direct reply-to.

Direct reply-to wants the request published on the channel that consumes the replies.
Source: https://www.rabbitmq.com/docs/direct-reply-to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from busctl_lib.amqp import wire
from busctl_lib.amqp.channels import Channel
from busctl_lib.amqp.confirms import PublishChannel
from busctl_lib.amqp.link import Link
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BrokerRefused, BusError

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"


class DirectReplies(PublishChannel):
    """Publishes requests and hands replies on. Thread: callbacks run on the I/O thread and must not block."""

    def __init__(
        self, link: Link, *, on_reply: Callable[[Delivery], None], on_lost: Callable[[BusError], None]
    ) -> None:
        self.reply_to = DIRECT_REPLY_TO
        self.refused: BrokerRefused | None = None
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._decided = threading.Event()
        super().__init__(link)

    def is_refused(self, timeout: float) -> bool:
        """Whether the broker has no direct reply-to; waits until that is known."""
        self._decided.wait(timeout)
        return self.refused is not None

    async def _prepare(self, channel: Channel) -> None:
        try:
            await channel.consume(DIRECT_REPLY_TO, auto_ack=True)
        except BrokerRefused as error:
            self.refused = error
            raise
        finally:
            self._decided.set()

    def on_deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """Hand a reply on."""
        _, tag, redelivered, exchange, key = wire.decode_deliver(method)
        self._on_reply(
            Delivery(
                exchange=exchange,
                routing_key=key,
                properties=wire.decode_properties(header),
                body=body,
                queue=None,
                received_at=time.time(),
                redelivered=redelivered,
                delivery_tag=tag,
            )
        )

    def _channel_closed(self, channel: Channel, reason: BusError) -> None:
        mine = channel is self._channel
        super()._channel_closed(channel, reason)
        if mine:
            self._on_lost(reason)
