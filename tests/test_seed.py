"""Each snippet of the messaging layer's document runs with `busctl_lib` in place of `messaging`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import wait_until

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, OrderPublisher, RPCConsumer

logger = logging.getLogger(__name__)


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


def test_broker_snippet(vhost: Any) -> None:
    broker = MessageBroker(
        host=vhost.host, port=vhost.port, username=vhost.username, password=vhost.password, virtual_host=vhost.name
    )
    broker.connect()
    broker.declare_queue("orders", durable=True)
    broker.declare_exchange("trade_events", exchange_type="fanout")
    broker.bind_queue("orders", "trade_events")
    broker.close()


def test_publisher_snippet(broker: MessageBroker) -> None:
    broker.declare_queue("my_queue")
    broker.declare_queue("tes_requests")
    publisher = MessagePublisher(broker)
    publisher.publish("my_queue", {"action": "test", "data": 123})
    order_pub = OrderPublisher(broker)
    order_pub.publish_order({"user_id": 1, "symbol": "AAPL", "side": "buy", "quantity": 100, "price": 150.0})
    assert broker.declare_queue("my_queue", passive=True).message_count == 1
    assert broker.declare_queue("tes_requests", passive=True).message_count == 1


def test_consumer_snippet_answers_to_reply_to(broker: MessageBroker) -> None:
    broker.declare_queue("order_queue")
    consumer = MessageConsumer(broker)
    received = []

    def handle_order(message: dict[str, Any], properties: Any) -> dict[str, str]:
        received.append((message, properties.message_id))
        return {"status": "ok", "message": "Order processed"}

    consumer.register_handler("place_order", handle_order)
    thread = threading.Thread(target=consumer.start_consuming, args=("order_queue",))
    thread.start()
    MessagePublisher(broker).publish("order_queue", {"action": "place_order"}, message_id="m-1")
    reply = RPCConsumer(broker).call(queue_name="order_queue", message={"action": "place_order"}, timeout=5)
    consumer.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert reply == {"status": "ok", "message": "Order processed"}
    assert received[0] == ({"action": "place_order"}, "m-1")
    assert broker.declare_queue("order_queue", passive=True).message_count == 0


def test_rpc_snippet(broker: MessageBroker) -> None:
    broker.declare_queue("obs_requests")
    service = MessageConsumer(broker)
    service.register_handler("get_orderbook", lambda message, _properties: {"symbol": message["symbol"], "bids": []})
    service.start_consuming("obs_requests", background=True)
    rpc = RPCConsumer(broker)
    response = rpc.call(queue_name="obs_requests", message={"action": "get_orderbook", "symbol": "AAPL"}, timeout=5)
    service.stop()
    assert response == {"symbol": "AAPL", "bids": []}


def test_schema_snippet() -> None:
    from busctl_lib.schemas import OrderMessage, TradeMessage, validate

    order: OrderMessage = {
        "action": "place_order",
        "user_id": 1,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": 100.0,
        "price": 150.0,
        "order_type": "limit",
        "timestamp": 1234567890.0,
    }
    validate(order, OrderMessage)
    assert TradeMessage


def test_context_manager_snippet(vhost: Any) -> None:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("my_queue")
        publisher = MessagePublisher(broker)
        publisher.publish("my_queue", {"data": "test"})
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("busctl-link")])


def test_error_handling_snippet(broker: MessageBroker, caplog: pytest.LogCaptureFixture) -> None:
    publisher = MessagePublisher(broker)
    try:
        publisher.publish("my_queue", {"data": "test"})
    except Exception as e:
        logger.error(f"Failed to publish message: {e}")
    assert "Failed to publish message: no queue took the message (queue 'my_queue')" in caplog.text
