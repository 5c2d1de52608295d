"""Calls to servers nobody here wrote: they work with the queue's name and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rpc_servers import serving
from waiting import wait_until

from busctl_lib import MessageBroker, RPCConsumer
from busctl_lib.errors import NoResponder
from busctl_lib.methods import Method, coerce
from busctl_lib.rpc.caller import MethodCaller


@pytest.fixture
def broker(vhost: Any) -> Iterator[MessageBroker]:
    with MessageBroker(url=vhost.amqp_url) as broker:
        yield broker


@pytest.mark.parametrize("mode", ["direct", "queue"])
@pytest.mark.parametrize("program", ["pika_tutorial", "aio_pika_tutorial"])
def test_the_tutorials_servers_answer_a_bare_number(vhost: Any, broker: MessageBroker, program: str, mode: Any) -> None:
    with serving(broker, vhost.amqp_url, program, "rpc_queue"):
        rpc = RPCConsumer(broker, reply_mode=mode)
        assert rpc.call("rpc_queue", b"10", timeout=20) == 55
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda n: rpc.call("rpc_queue", str(n).encode(), 30), range(1, 11))) == [
                *(1, 1, 2, 3, 5, 8, 13, 21, 34, 55)
            ]
        assert vars(rpc.strays) == {"late": 0, "duplicate": 0, "foreign": 0, "uncorrelated": 0}


def test_kombus_server_answers_json(vhost: Any, broker: MessageBroker) -> None:
    with serving(broker, vhost.amqp_url, "kombu_example", "rpc_queue"), MethodCaller(broker) as caller:
        fib = Method("fib", "rpc_queue", None)
        assert caller.request(fib, coerce(fib, ["n:=12"]), 20).message == {"result": 144}


def test_aio_pikas_pattern_answers_and_its_errors_are_told_by_an_expression(vhost: Any, broker: MessageBroker) -> None:
    error = 'if .properties.type == "error" then .body.error else empty end'
    divide = Method("divide", "divide", None, error=error)
    with serving(broker, vhost.amqp_url, "aio_pika_pattern", "divide"), MethodCaller(broker) as caller:
        reply = caller.request(divide, {"a": 1, "b": 4}, 20)
        assert (reply.message, caller.failure(divide, reply)) == (0.25, None)
        failure = caller.failure(divide, caller.request(divide, {"a": 1, "b": 0}, 20))
        assert failure is not None
        assert failure.facts["type"] == "ZeroDivisionError"
        assert "division by zero" in str(failure)


def test_a_server_killed_in_the_middle_of_a_call_is_nobody_there(vhost: Any, broker: MessageBroker) -> None:
    with serving(broker, vhost.amqp_url, "pika_tutorial", "rpc_queue") as server, ThreadPoolExecutor(1) as pool:
        call = pool.submit(RPCConsumer(broker).request, "rpc_queue", b"90", 3)  # works on it for ages
        wait_until(lambda: broker.stats().confirmed >= 1, 20)
        server.kill()
        with pytest.raises(NoResponder, match="no consumer"):
            call.result(40)
