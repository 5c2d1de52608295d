"""pika's BlockingConnection: one confirm and one call at a time, by nature."""

from __future__ import annotations

import json

import pika
from job import Job
from message import BODY, MESSAGE
from pika.adapters.blocking_connection import BlockingChannel

REPLY_TO = "amq.rabbitmq.reply-to"


def publish(job: Job) -> None:
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    with pika.BlockingConnection(pika.URLParameters(job.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        job.watch.start()
        for _ in range(job.n):
            channel.basic_publish("", job.queue, BODY, properties, mandatory=True)
        job.watch.stop()


publish_one = publish


class Caller:
    """Requests over direct reply-to, the next one when the last is answered."""

    def __init__(self, connection: pika.BlockingConnection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._channel: BlockingChannel = connection.channel()
        self._channel.basic_consume(REPLY_TO, self._on_reply, auto_ack=True)
        self._waiting_for: str | None = None
        self._reply = b""

    def _on_reply(self, _channel: object, _method: object, properties: pika.BasicProperties, body: bytes) -> None:
        if properties.correlation_id == self._waiting_for:
            self._waiting_for, self._reply = None, body

    def call(self, number: int) -> dict[str, object]:
        self._waiting_for = str(number)
        request = pika.BasicProperties(
            content_type="application/json", reply_to=REPLY_TO, correlation_id=self._waiting_for
        )
        self._channel.basic_publish("", self._queue, json.dumps(MESSAGE).encode(), request, mandatory=True)
        while self._waiting_for is not None:
            self._connection.process_data_events(time_limit=1)
        return json.loads(self._reply)


def call(job: Job) -> None:
    with pika.BlockingConnection(pika.URLParameters(job.url)) as connection:
        caller = Caller(connection, job.queue)
        caller.call(-1)
        job.watch.start()
        for number in range(job.n):
            reply = caller.call(number)
        job.watch.stop()
        assert reply == MESSAGE


call_64 = call
