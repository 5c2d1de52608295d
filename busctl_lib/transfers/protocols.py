"""What came by another protocol than AMQP 0-9-1, and what of it cannot go back through this one.

Run on 4.3.6 and 3.10.8: a message of AMQP 1.0 comes without its subject and group sequence, its application properties
`x-...` as annotations, whole numbers above 2^63 negative. Where its body is one section of bytes nothing tells that it
came so. Source: https://www.rabbitmq.com/docs/conversions.
"""

from __future__ import annotations

import re

from busctl_lib.envelope import Envelope

_SECTION = re.compile(rb"\x00[\x53\x80][\x75-\x77]|\x00\x80\x00{7}[\x75-\x77]")
"""How an AMQP 1.0 body begins that the broker hands on as it is: the descriptor of data, sequence or value."""
_AMQP10_HEADERS = ("x-message-id-type", "x-correlation-id-type")
_AMQP10_OF_3 = "x-amqp-1.0-"
_MQTT_HEADERS = ("x-mqtt-publish-qos", "x-reply-to-topic")

LOST = {
    "AMQP 1.0": "AMQP 0-9-1 carries no subject, group sequence or delivery annotations, and gives unsigned numbers "
    "above 2^63 as negative ones: such parts are gone",
    "MQTT": "AMQP 0-9-1 keeps one of several user properties of one name, and no subscription identifiers",
}
"""What does not come through, by protocol."""


def protocol_of(envelope: Envelope) -> str | None:
    """The other protocol that a message was sent by, where its form tells."""
    headers = envelope.headers
    if envelope.properties.type == "amqp-1.0" or _SECTION.match(envelope.body):
        return "AMQP 1.0"
    if any(name in _AMQP10_HEADERS or name.startswith(_AMQP10_OF_3) for name in headers):
        return "AMQP 1.0"
    return "MQTT" if any(name in headers for name in _MQTT_HEADERS) else None
