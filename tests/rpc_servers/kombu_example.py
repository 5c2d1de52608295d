"""The RPC server of kombu's own examples (rpc-tut6), with the queue's name and the address as arguments.

usage: kombu_example.py URL QUEUE
"""

import sys

from kombu import Connection, Queue
from kombu.mixins import ConsumerProducerMixin

rpc_queue = Queue(sys.argv[2])


def fib(n):
    if n == 0:
        return 0
    if n == 1:
        return 1
    return fib(n - 1) + fib(n - 2)


class Worker(ConsumerProducerMixin):
    def __init__(self, connection):
        self.connection = connection

    def get_consumers(self, Consumer, channel):  # noqa: N803 - kombu's name
        return [
            Consumer(
                queues=[rpc_queue],
                on_message=self.on_request,
                accept={"application/json"},
                prefetch_count=1,
            )
        ]

    def on_request(self, message):
        n = message.payload["n"]
        result = fib(n)

        self.producer.publish(
            {"result": result},
            exchange="",
            routing_key=message.properties["reply_to"],
            correlation_id=message.properties["correlation_id"],
            serializer="json",
            retry=True,
        )
        message.ack()


with Connection(sys.argv[1]) as conn:
    Worker(conn).run()
