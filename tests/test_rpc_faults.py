"""What a service can do wrong with its replies: each told apart, and none hangs the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from proxy import Proxy
from waiting import wait_until

from busctl_lib import Delivery, Envelope, MessageBroker, MessagePublisher, Properties, RPCConsumer
from busctl_lib.broker import State
from busctl_lib.errors import CodecError, ConfigError, GuardRefused, NeverSent, NoResponder, NotFound, ReplyTimeout

Answer = Callable[[Delivery], list[Envelope]]


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        broker.declare_queue("service")
        yield broker


def serve(broker: MessageBroker, answer: Answer, queue: str = "service") -> None:
    """Answer each request with whatever messages `answer` makes of it."""
    publisher = MessagePublisher(broker)

    def on_request(request: Delivery) -> None:
        for reply in answer(request):
            publisher.send_envelope(reply, lambda _entry: None)

    broker.subscribe(queue, on_request, auto_ack=True)


def reply_to(request: Delivery, body: bytes = b'"ok"', correlation_id: str | None = "copied") -> Envelope:
    own = request.properties.correlation_id if correlation_id == "copied" else correlation_id
    assert request.properties.reply_to
    return Envelope(
        exchange="", routing_key=request.properties.reply_to, properties=Properties(correlation_id=own), body=body
    )


@pytest.mark.parametrize("mode", ["direct", "queue"])
def test_a_reply_without_a_correlation_id_is_not_taken_for_ours_and_told(broker: MessageBroker, mode: Any) -> None:
    serve(broker, lambda request: [reply_to(request, correlation_id=None)])
    rpc = RPCConsumer(broker, reply_mode=mode)
    with pytest.raises(ReplyTimeout, match="1 came without a correlation id") as caught:
        rpc.request("service", {}, 2)
    assert "copy correlation_id" in str(caught.value.hint)
    assert rpc.strays.uncorrelated == 1


def test_a_reply_of_another_call_is_not_taken_for_ours_and_told(broker: MessageBroker) -> None:
    serve(broker, lambda request: [reply_to(request, correlation_id="somebody's")])
    rpc = RPCConsumer(broker)
    with pytest.raises(ReplyTimeout, match="1 came for a call that was never ours"):
        rpc.request("service", {}, 2)
    assert rpc.strays.foreign == 1


def test_a_duplicate_reply_is_counted_and_harms_nothing(broker: MessageBroker) -> None:
    serve(broker, lambda request: [reply_to(request, b"1"), reply_to(request, b"2")])
    rpc = RPCConsumer(broker)
    assert rpc.call("service", {}, 20) == 1
    wait_until(lambda: rpc.strays.duplicate == 1, 20)
    assert rpc.call("service", {}, 20) == 1
    assert rpc.strays.late == 0


def test_a_reply_of_a_megabyte_comes_whole(broker: MessageBroker) -> None:
    body = b'"' + b"x" * (1 << 20) + b'"'
    serve(broker, lambda request: [reply_to(request, body)])
    assert len(RPCConsumer(broker).call("service", {}, 30)) == 1 << 20


def test_a_reply_that_is_not_json_is_told_and_there_as_it_is(broker: MessageBroker) -> None:
    serve(broker, lambda request: [reply_to(request, b"\xff\x00")])
    reply = RPCConsumer(broker).request("service", {}, 20)
    assert reply.delivery.body == b"\xff\x00"
    with pytest.raises(CodecError, match="not JSON"):
        _ = reply.message


def test_a_queue_deleted_in_the_middle_of_a_call_is_nobody_there(broker: MessageBroker) -> None:
    serve(broker, lambda request: [])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(RPCConsumer(broker).request, "service", {}, 2)
        wait_until(lambda: broker.stats().confirmed >= 1, 20)
        broker.delete_queue("service")
        with pytest.raises(NoResponder, match="the queue is gone"):
            call.result(30)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 4_294_968])
def test_a_timeout_that_no_message_can_carry_is_refused(broker: MessageBroker, timeout: float) -> None:
    with pytest.raises(ConfigError, match="49 days"):
        RPCConsumer(broker).request("service", {}, timeout)


def test_the_longest_timeout_is_carried(broker: MessageBroker) -> None:
    serve(broker, lambda request: [reply_to(request, (request.properties.expiration or "").encode())])
    assert RPCConsumer(broker).call("service", {}, 4_294_967) == 4_294_967_000


def test_an_exchange_that_leads_nowhere_is_known_at_once(broker: MessageBroker) -> None:
    broker.declare_exchange("methods", "topic")
    with pytest.raises(NoResponder, match=r"exchange 'methods' routes 'book\.get' nowhere"):
        RPCConsumer(broker).request("book.get", {}, 30, exchange="methods")
    broker.bind_queue("service", "methods", "book.*")
    serve(broker, lambda request: [reply_to(request)])
    assert RPCConsumer(broker).call("book.get", {}, 20, exchange="methods") == "ok"


def test_a_request_that_never_left_is_told_as_such(vhost: Any, broker: MessageBroker) -> None:
    serve(broker, lambda request: [reply_to(request)])
    with Proxy(vhost.host, vhost.port) as proxy, MessageBroker(url=proxy.url(vhost.amqp_url)) as caller:
        rpc = RPCConsumer(caller)
        assert rpc.call("service", {}, 20) == "ok"
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: caller.links.publish.state is not State.OPEN, 20)
        with pytest.raises(NeverSent):
            rpc.call("service", {}, 0.5)
        proxy.refuse(False)
        assert rpc.call("service", {}, 5, retries=5) == "ok"


def test_only_what_was_never_sent_is_tried_again_and_only_when_asked(vhost: Any, broker: MessageBroker) -> None:
    asked: list[Delivery] = []
    serve(broker, lambda request: asked.append(request) or [])  # type: ignore[func-returns-value]
    rpc = RPCConsumer(broker)
    with pytest.raises(ReplyTimeout):
        rpc.request("service", {}, 2, retries=3)
    assert len(asked) == 1
    tries: list[float] = []

    def never_sent(*arguments: Any) -> Any:
        tries.append(arguments[2])
        raise NeverSent("the link is blocked")

    rpc._request = never_sent  # type: ignore[method-assign]
    with pytest.raises(NeverSent):
        rpc.request("service", {}, 0.5)
    assert len(tries) == 1
    with pytest.raises(NeverSent):
        rpc.request("service", {}, 0.5, retries=2)
    assert len(tries) == 4


# --- a reply queue that is shared


def test_replies_by_a_shared_queue_are_matched_and_others_stay_where_they_were(broker: MessageBroker) -> None:
    broker.declare_queue("responses")
    publisher = MessagePublisher(broker)
    theirs = [f'"{number}"'.encode() for number in range(5)]
    for number, body in enumerate(theirs):
        properties = Properties(correlation_id=f"theirs-{number}")
        publisher.publish_envelope(Envelope(exchange="", routing_key="responses", properties=properties, body=body))
    serve(broker, lambda request: [reply_to(request, request.body)])
    rpc = RPCConsumer(broker, reply_mode="shared", reply_queue="responses")
    for number in range(3):
        assert rpc.call("service", number, 20) == number
    wait_until(lambda: broker.declare_queue("responses", passive=True).message_count == 5, 20)
    found: list[bytes] = []
    broker.subscribe("responses", lambda delivery: found.append(delivery.body), auto_ack=True)
    wait_until(lambda: len(found) == 5, 20)
    assert found == theirs
    assert rpc.strays.foreign == 0


def test_two_callers_of_one_shared_queue_each_get_their_own(vhost: Any, broker: MessageBroker) -> None:
    broker.declare_queue("responses")
    serve(broker, lambda request: [reply_to(request, request.body)])
    results: dict[str, list[Any]] = {"a": [], "b": []}

    def caller(name: str) -> None:
        with MessageBroker(url=vhost.amqp_url) as own:
            rpc = RPCConsumer(own, reply_mode="shared", reply_queue="responses")
            for number in range(4):
                results[name].append(rpc.call("service", f"{name}{number}", 60))

    threads = [threading.Thread(target=caller, args=(name,)) for name in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == {name: [f"{name}{number}" for number in range(4)] for name in results}
    wait_until(lambda: broker.declare_queue("responses", passive=True).message_count == 0, 20)


def test_a_shared_queue_that_is_not_there_or_would_wear_replies_out_is_refused(broker: MessageBroker) -> None:
    with pytest.raises(NotFound):
        RPCConsumer(broker, reply_mode="shared", reply_queue="absent").request("service", {}, 5)
    broker.declare_queue("quorum", arguments={"x-queue-type": "quorum"})
    theirs = Envelope(exchange="", routing_key="quorum", properties=Properties(correlation_id="theirs"), body=b"1")
    MessagePublisher(broker).publish_envelope(theirs)
    rpc = RPCConsumer(broker, reply_mode="shared", reply_queue="quorum")

    def refused() -> bool:  # their reply is given back, and at its second sight the queue's kind is known
        try:
            rpc.request("service", {}, 0.5)
        except NoResponder:
            return False
        except GuardRefused as error:
            return "quorum queue" in str(error)
        return False

    wait_until(refused, 30)
    wait_until(lambda: broker.declare_queue("quorum", passive=True).message_count == 1, 20)
    with pytest.raises(ConfigError, match="reply_queue"):
        RPCConsumer(broker, reply_mode="shared")
