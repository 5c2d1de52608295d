"""pika's SelectConnection, bare: callbacks on its loop and nothing of ours around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pika
from job import Job
from message import BODY
from pika.channel import Channel
from tasks import PREFETCH

WINDOW = 2000


def _run(job: Job, begin: Callable[[Channel], object]) -> None:
    def opened(connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=begin)

    def ended(connection: pika.SelectConnection, reason: BaseException) -> None:
        connection.ioloop.stop()
        if not job.watch.seconds:
            raise reason

    pika.SelectConnection(
        pika.URLParameters(job.url), on_open_callback=opened, on_open_error_callback=ended, on_close_callback=ended
    ).ioloop.start()


def publish(job: Job) -> None:
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    sent = confirmed = 0

    def begin(channel: Channel) -> None:
        def fill_window() -> None:
            nonlocal sent
            while sent < job.n and sent - confirmed < WINDOW:
                channel.basic_publish("", job.queue, BODY, properties, mandatory=True)
                sent += 1

        def on_confirm(frame: Any) -> None:
            nonlocal confirmed
            confirmed = max(confirmed, frame.method.delivery_tag)
            if confirmed >= job.n:
                job.watch.stop()
                channel.connection.close()
            else:
                fill_window()

        def ready(_frame: object) -> None:
            job.watch.start()
            fill_window()

        channel.confirm_delivery(on_confirm, callback=ready)

    _run(job, begin)


def consume(job: Job) -> None:
    handled = 0

    def on_message(channel: Channel, method: Any, _properties: object, body: bytes) -> None:
        nonlocal handled
        json.loads(body)
        channel.basic_ack(method.delivery_tag)
        handled += 1
        if handled == job.n:
            job.watch.stop()
            channel.connection.close()

    def begin(channel: Channel) -> None:
        job.watch.start()
        channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _frame: channel.basic_consume(job.queue, on_message))

    _run(job, begin)
