"""RPCServer: functions with type hints as methods; every request has an answer, and a stop loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from proxy import Proxy
from waiting import wait_until

from busctl_lib import Envelope, MessageBroker, MessagePublisher, Properties, RPCConsumer, RPCServer
from busctl_lib.errors import ConfigError, NoResponder, NotFound, RemoteError
from busctl_lib.rpc import Request

Depth = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Level(TypedDict):
    price: float


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("books")
        yield broker


@pytest.fixture
def rpc(vhost: Any) -> Iterator[RPCConsumer]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield RPCConsumer(broker)


def test_functions_are_methods_and_their_hints_are_checked(broker: MessageBroker, rpc: RPCConsumer) -> None:
    server = RPCServer(broker, "books")

    @server.method
    def get(symbol: str, depth: Depth = 10, levels: list[Level] | None = None) -> dict[str, Any]:
        return {"symbol": symbol, "depth": depth, "levels": levels}

    @server.method(name="nothing")
    def give_nothing() -> None:
        return None

    with server:
        found = rpc.call("books", {"action": "get", "symbol": "AAPL"}, 20)
        assert found == {"symbol": "AAPL", "depth": 10, "levels": None}
        assert rpc.call("books", {"action": "nothing"}, 20) is None
        for message, says in [
            ({"action": "get"}, "get: .*missing required field `symbol`"),
            ({"action": "get", "symbol": "A", "depth": 0}, "get: depth: Expected `int` >= 1"),
            ({"action": "get", "symbol": "A", "levels": [{}]}, r"levels\[0\]: .*price"),
            ({"action": "get", "symbol": "A", "more": 1}, "unknown field `more`"),
            ({"action": "gett"}, "no method 'gett', did you mean get"),
            ([1], "no method None"),
        ]:
            with pytest.raises(RemoteError, match=says) as caught:
                rpc.call("books", message, 20)
            assert caught.value.facts["type"] == "InvalidMessage"
        with pytest.raises(RemoteError, match="not JSON"):
            rpc.call("books", b"\xff", 20)


def test_an_exception_is_an_error_reply_with_its_type_and_text(broker: MessageBroker, rpc: RPCConsumer) -> None:
    server = RPCServer(broker, "books")

    @server.method
    def divide(a: int, b: int) -> float:
        return a / b

    with server, pytest.raises(RemoteError, match="division by zero") as caught:
        rpc.call("books", {"action": "divide", "a": 1, "b": 0}, 20)
    assert caught.value.facts["type"] == "ZeroDivisionError"
    assert server.responder.failed == 1


def test_requests_are_worked_on_side_by_side(broker: MessageBroker, rpc: RPCConsumer) -> None:
    server = RPCServer(broker, "books", concurrency=4)
    together = threading.Barrier(4)

    @server.method
    def meet() -> int:
        return together.wait(20)

    with server, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(rpc.call, "books", {"action": "meet"}, 30) for _ in range(4)]
        assert sorted(call.result(40) for call in calls) == [0, 1, 2, 3]


def test_work_beyond_the_deadline_is_answered_as_such_and_its_result_dropped(
    broker: MessageBroker, rpc: RPCConsumer
) -> None:
    server = RPCServer(broker, "books", deadline_s=1.0)
    go_on = threading.Event()
    ended: list[bool] = []

    @server.method
    def slow(request: Request) -> str:
        assert request.remaining_s is not None
        go_on.wait(30)
        ended.append(True)
        return "done"

    with server:
        with pytest.raises(RemoteError, match=r"no result within 1 s") as caught:
            rpc.call("books", {"action": "slow"}, 30)
        assert caught.value.facts["type"] == "DeadlineExceeded"
        go_on.set()
        wait_until(lambda: ended, 20)
    assert rpc.strays.duplicate == 0


def test_a_request_nobody_waits_for_is_not_worked_on(broker: MessageBroker) -> None:
    worked: list[int] = []
    server = RPCServer(broker, "books")
    server.default(lambda request: worked.append(int(request.delivery.body)))
    publisher = MessagePublisher(broker)
    for number, deadline in enumerate([time.time() - 1, time.time() + 600]):
        properties = Properties(headers={"busctl-deadline": int(deadline * 1000)})
        publisher.publish_envelope(
            Envelope(exchange="", routing_key="books", properties=properties, body=str(number).encode())
        )
    with server:
        wait_until(lambda: worked, 20)
    assert worked == [1]
    assert server.responder.expired == 1


def test_a_stop_finishes_what_is_at_work_and_gives_back_the_rest(broker: MessageBroker, rpc: RPCConsumer) -> None:
    server = RPCServer(broker, "books")
    at_work, go_on = threading.Event(), threading.Event()

    @server.default
    def work(request: Request) -> bytes:
        at_work.set()
        go_on.wait(30)
        return request.delivery.body

    server.start()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(rpc.call, "books", 1, 60)
        assert at_work.wait(20)
        second = pool.submit(rpc.call, "books", 2, 60)
        wait_until(lambda: broker.links.consume is not None and rpc._calls and len(rpc._calls) == 2, 20)
        stopping = pool.submit(server.stop)
        wait_until(lambda: server.responder._stopping, 20)
        go_on.set()
        stopping.result(40)
        assert first.result(20) == 1
        assert not second.done()
        wait_until(lambda: broker.declare_queue("books", passive=True).message_count == 1, 20)
        with server:
            assert second.result(40) == 2


def test_requests_without_an_address_are_worked_on_and_buried_when_that_fails(broker: MessageBroker) -> None:
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    broker.declare_queue("dead")
    broker.declare_queue("work", arguments=dead)
    server = RPCServer(broker, "work")
    worked: list[int] = []

    @server.method
    def note(n: int) -> None:
        worked.append(1 // n)

    publisher = MessagePublisher(broker)
    publisher.publish("work", {"action": "note", "n": 1})
    publisher.publish("work", {"action": "note", "n": 0})
    with server:
        wait_until(lambda: broker.declare_queue("dead", passive=True).message_count == 1, 20)
    assert worked == [1]


def test_it_goes_on_after_its_link_was_lost(vhost: Any, broker: MessageBroker, rpc: RPCConsumer) -> None:
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as own:
        server = RPCServer(own, "books")
        server.default(lambda request: request.delivery.body)
        with server:
            assert rpc.call("books", 1, 20) == 1
            proxy.cut()
            assert rpc.call("books", 2, 40) == 2


def test_what_cannot_be_a_method_is_refused(broker: MessageBroker) -> None:
    server = RPCServer(broker, "books")

    def without_hint(symbol) -> None:  # type: ignore[no-untyped-def]
        """No hint."""

    def same() -> None:
        """Taken twice."""

    with pytest.raises(ConfigError, match="parameter symbol needs a type hint"):
        server.method(without_hint)
    server.method(same)
    with pytest.raises(ConfigError, match="there is a method 'same'"):
        server.method(same)
    with pytest.raises(ConfigError, match="concurrency"):
        RPCServer(broker, "books", concurrency=0)
    with pytest.raises(NotFound):
        RPCServer(broker, "absent").start()


def test_closing_the_broker_stops_its_servers(vhost: Any, broker: MessageBroker, rpc: RPCConsumer) -> None:
    with MessageBroker(url=vhost.amqp_url) as own:
        server = RPCServer(own, "books")
        server.default(lambda request: request.delivery.body)
        server.start()
        assert rpc.call("books", 1, 20) == 1
    with pytest.raises(NoResponder):
        rpc.call("books", 2, 0.5)
