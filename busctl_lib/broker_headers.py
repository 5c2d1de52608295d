"""The headers that the broker writes: a closed list of names, each with where it comes from.

A message that is sent again begins without them. Any other header is the application's, whatever its name begins with.
"""

from __future__ import annotations

BROKER_HEADERS = {
    "x-death": "dead lettering: https://www.rabbitmq.com/docs/dlx",
    "x-delivery-count": "quorum queues: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling",
    "x-acquired-count": "quorum queues from 4.3 on: the same page",
    "x-stream-offset": "streams: https://www.rabbitmq.com/docs/streams#consuming",
    "x-received-from": "federation: https://www.rabbitmq.com/docs/federated-exchanges#details",
    "x-shovelled": "shovels with add-forward-headers: https://www.rabbitmq.com/docs/shovel-dynamic",
    "x-shovelled-timestamp": "shovels with add-timestamp-header: the same page",
    "x-opt-shovelled-by": "shovels over AMQP 1.0: the same page",
    "x-opt-shovelled-timestamp": "shovels over AMQP 1.0: the same page",
    "x-opt-rabbitmq-received-time": "incoming interceptor: https://www.rabbitmq.com/docs/message-interceptors",
    "x-opt-rabbitmq-sent-time": "outgoing interceptor: the same page",
    "x-routed-by": "incoming interceptor: the same page",
}
"""By name, the broker's feature and its page."""
_DEATHS = ("x-first-death-", "x-last-death-")


def is_broker_header(name: str) -> bool:
    """Tell whether the broker writes a header of this name."""
    return name in BROKER_HEADERS or name.startswith(_DEATHS)
