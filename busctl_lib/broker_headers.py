"""The headers that brokers write into a message on its way: a closed list of names, each with where it comes from.

A message that is sent again begins without them. Any other header is the application's, whatever its name begins with.
A broker also changes the order of all headers: 3.10.8 hands out a message of a quorum queue with its publisher's order
the first time, and sorted by name from then on; 4.0.5 and 4.3.6 always sort.
"""

from __future__ import annotations

_INTERCEPTORS = "https://www.rabbitmq.com/docs/message-interceptors"
_SHOVELS = "https://www.rabbitmq.com/docs/shovel-dynamic"

AT_DELIVERY = {
    "x-delivery-count": "quorum queues: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling",
    "x-acquired-count": "quorum queues from 4.3 on: the same page",
    "x-stream-offset": "streams: https://www.rabbitmq.com/docs/streams#consuming",
    "x-opt-rabbitmq-sent-time": f"outgoing interceptor, from 4.2 on: {_INTERCEPTORS}",
}
"""Written anew whenever a message is handed out: nothing of it is true of a message that is sent again."""

RECEIVED_TIME = "timestamp_in_ms"
"""When a broker took the message in."""
AT_PUBLISH = {
    RECEIVED_TIME: f"incoming interceptor, with the property timestamp; before 3.12 a plug-in: {_INTERCEPTORS}",
    "x-opt-rabbitmq-received-time": "the same for a client of AMQP 1.0",
    "x-routed-by": "incoming interceptor; before 3.12 a plug-in: the same page",
}
"""Written when a broker takes a message in: again where it is moved."""

ON_THE_WAY = {
    "x-received-from": "federation: https://www.rabbitmq.com/docs/federated-exchanges#details",
    "x-shovelled": f"shovels with add-forward-headers: {_SHOVELS}",
    "x-shovelled-timestamp": "shovels with add-timestamp-header: the same page",
    "x-opt-shovelled-by": "shovels over AMQP 1.0: the same page",
    "x-opt-shovel-type": "shovels over AMQP 1.0: the same page",
    "x-opt-shovel-name": "shovels over AMQP 1.0: the same page",
    "x-opt-shovelled-timestamp": "shovels over AMQP 1.0: the same page",
}
"""Which way it took from broker to broker."""

DEATH = "x-death"
"""The history of its deaths."""
_DEATHS = ("x-first-death-", "x-last-death-")
_BY_NAME_ALONE = frozenset({RECEIVED_TIME})
"""Such a name may be an application's own as well."""

BROKER_HEADERS = {
    DEATH: "dead lettering: https://www.rabbitmq.com/docs/dlx",
    **{name: source for name, source in (AT_DELIVERY | AT_PUBLISH | ON_THE_WAY).items() if name not in _BY_NAME_ALONE},
}
"""By name, the broker's feature and its page."""


def is_broker_header(name: str) -> bool:
    """Tell whether the broker writes a header of this name."""
    return name in BROKER_HEADERS or tells_of_death(name)


def tells_of_death(name: str) -> bool:
    """Tell whether the broker writes a header of this name into a message that dies."""
    return name == DEATH or name.startswith(_DEATHS)
