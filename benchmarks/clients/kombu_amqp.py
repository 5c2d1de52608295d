"""kombu over py-amqp. With confirms on, each publish waits for its own."""

from __future__ import annotations

import json

import kombu
from job import Job
from message import BODY
from tasks import PREFETCH


def _connection(job: Job) -> kombu.Connection:
    return kombu.Connection("py" + job.url, transport_options={"confirm_publish": True})


def publish(job: Job) -> None:
    with _connection(job) as connection:
        producer = connection.Producer()
        producer.channel  # noqa: B018 - opens it, which would else be timed
        job.watch.start()
        for _ in range(job.n):
            producer.publish(
                BODY,
                exchange="",
                routing_key=job.queue,
                delivery_mode=2,
                content_type="application/json",
                content_encoding="utf-8",
                mandatory=True,
            )
        job.watch.stop()


def consume(job: Job) -> None:
    handled = 0

    def on_message(message: kombu.Message) -> None:
        nonlocal handled
        json.loads(message.body)
        message.ack()
        handled += 1

    with _connection(job) as connection:
        consumer = kombu.Consumer(
            connection.channel(),
            queues=[kombu.Queue(job.queue, durable=True)],
            on_message=on_message,
            prefetch_count=PREFETCH,
            auto_declare=False,
        )
        job.watch.start()
        with consumer:
            while handled < job.n:
                connection.drain_events()
            job.watch.stop()
