"""The conventions on the wire, read without this library: plain pika, zstandard and cryptography, as docs/ shows."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher
from busctl_lib.codecs import Keyring, new_key
from busctl_lib.errors import ConfigError

PAGE = Path(__file__).parents[1] / "docs" / "message-conventions.md"
KEY = new_key()
MESSAGE = {"action": "statement", "text": "größer " * 300}


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("q", dead_letter=True)
        yield broker


def reader_of_the_page() -> Callable[[Any, bytes, dict[str, bytes]], bytes]:
    """The function that the page shows, run from its text."""
    (code,) = re.findall(r"```python\n(def read.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"gzip": gzip, "zstandard": zstandard, "AESGCM": AESGCM}
    exec(code, names)
    found: Callable[[Any, bytes, dict[str, bytes]], bytes] = names["read"]
    return found


@pytest.mark.parametrize(("compress", "encrypt"), [("zstd", True), ("gzip", True), ("zstd", False), (None, True)])
def test_ten_lines_of_plain_pika_read_our_bodies(
    broker: MessageBroker, vhost: Any, compress: str | None, encrypt: bool
) -> None:
    keys = Keyring({"k7": KEY}) if encrypt else None
    MessagePublisher(broker, compress=compress, keys=keys).publish("q", MESSAGE, type="statement")  # type: ignore[arg-type]
    connection = pika.BlockingConnection(pika.URLParameters(vhost.amqp_url))
    try:
        _, properties, body = connection.channel().basic_get("q", auto_ack=True)
    finally:
        connection.close()
    read = reader_of_the_page()
    assert json.loads(read(properties, body, {"k7": KEY})) == MESSAGE
    if encrypt:
        properties.message_id = "another"
        with pytest.raises(InvalidTag):
            read(properties, body, {"k7": KEY})


def test_we_read_what_plain_pika_compressed(broker: MessageBroker, vhost: Any) -> None:
    got: list[Any] = []
    consumer = MessageConsumer(broker)
    consumer.register_default(lambda message, _properties: got.append(message))
    consumer.start_consuming("q", background=True)
    connection = pika.BlockingConnection(pika.URLParameters(vhost.amqp_url))
    channel = connection.channel()
    text = json.dumps(MESSAGE).encode()
    for encoding, body in (("gzip", gzip.compress(text)), ("zstd", zstandard.compress(text)), ("utf-8", text)):
        channel.basic_publish("", "q", body, pika.BasicProperties(content_encoding=encoding))
    connection.close()
    wait_until(lambda: len(got) == 3, 30)
    consumer.stop()
    assert got == [MESSAGE] * 3


def test_a_classic_priority_queue_hands_out_the_urgent_first(broker: MessageBroker) -> None:
    broker.declare_queue("urgent", max_priority=5)
    publisher = MessagePublisher(broker)
    for priority in (0, 5, 1, 3, None):
        publisher.publish("urgent", {"priority": priority}, priority=priority)
    got: list[Any] = []
    consumer = MessageConsumer(broker)
    consumer.register_default(lambda message, _properties: got.append(message["priority"]))
    consumer.start_consuming("urgent", background=True)
    wait_until(lambda: len(got) == 5, 30)
    consumer.stop()
    assert got[:3] == [5, 3, 1]


def test_a_quorum_queue_takes_no_max_priority_and_is_told_so(broker: MessageBroker) -> None:
    with pytest.raises(ConfigError, match="for classic queues"):
        broker.declare_queue("qq", max_priority=5, arguments={"x-queue-type": "quorum"})
    with pytest.raises(ConfigError, match="1 to 255"):
        broker.declare_queue("urgent", max_priority=0)


def test_a_quorum_queue_has_two_levels_from_4_0_on(broker: MessageBroker) -> None:
    if int(broker.server_version.split(".")[0]) < 4:
        pytest.skip("quorum queues know no priorities before RabbitMQ 4.0")
    broker.declare_queue("qq", arguments={"x-queue-type": "quorum"})
    publisher = MessagePublisher(broker)
    for n in range(4):
        publisher.publish("qq", {"priority": 0, "n": n}, priority=0)
    publisher.publish("qq", {"priority": 9, "n": 4}, priority=9)
    got: list[Any] = []
    consumer = MessageConsumer(broker, prefetch=1)
    consumer.register_default(lambda message, _properties: got.append(message["priority"]))
    consumer.start_consuming("qq", background=True)
    wait_until(lambda: len(got) == 5, 30)
    consumer.stop()
    assert got.index(9) < 3
