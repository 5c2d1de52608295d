"""amqpstorm. With confirms on, each publish waits for its own."""

from __future__ import annotations

import json

import amqpstorm
from job import Job
from message import BODY
from tasks import PREFETCH

_PROPERTIES = {"content_type": "application/json", "delivery_mode": 2}


def _connection(job: Job) -> amqpstorm.UriConnection:
    return amqpstorm.UriConnection(job.url + ("&" if "?" in job.url else "?") + "heartbeat=60")


def publish(job: Job) -> None:
    with _connection(job) as connection, connection.channel() as channel:
        channel.confirm_deliveries()
        job.watch.start()
        for _ in range(job.n):
            channel.basic.publish(BODY, job.queue, properties=dict(_PROPERTIES), mandatory=True)
        job.watch.stop()


def consume(job: Job) -> None:
    with _connection(job) as connection, connection.channel() as channel:
        channel.basic.qos(prefetch_count=PREFETCH)
        job.watch.start()
        channel.basic.consume(queue=job.queue)
        for handled, message in enumerate(channel.build_inbound_messages(break_on_empty=False), start=1):
            json.loads(message.body)
            message.ack()
            if handled == job.n:
                break
        job.watch.stop()
