"""The service behind the call tasks, the same for all callers: sends each request's body back.

usage: echo.py URL QUEUE      says "ready" on stdout, ends with its parent
"""

from __future__ import annotations

import sys
from typing import Any

import pika
from pika.channel import Channel
from process import end_with_parent
from tasks import PREFETCH


def serve(url: str, queue: str) -> None:
    def on_request(channel: Channel, method: Any, request: pika.BasicProperties, body: bytes) -> None:
        answer = pika.BasicProperties(content_type=request.content_type, correlation_id=request.correlation_id)
        channel.basic_publish("", str(request.reply_to), body, answer)
        channel.basic_ack(method.delivery_tag)

    def begin(channel: Channel) -> None:
        channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _frame: start(channel))

    def start(channel: Channel) -> None:
        channel.basic_consume(queue, on_request, callback=lambda _frame: print("ready", flush=True))

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda opened: opened.channel(on_open_callback=begin),
        on_open_error_callback=lambda failed, _reason: failed.ioloop.stop(),
        on_close_callback=lambda closed, _reason: closed.ioloop.stop(),
    )
    connection.ioloop.start()


if __name__ == "__main__":
    end_with_parent()
    serve(*sys.argv[1:3])
