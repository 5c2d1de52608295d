"""aio-pika on asyncio's own loop, connected by `connect_robust` as its documentation does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection
from job import Job
from message import BODY, MESSAGE
from tasks import PREFETCH, THREADS

WINDOW = 2000
REPLY_TO = "amq.rabbitmq.reply-to"


def publish(job: Job) -> None:
    asyncio.run(with_connection(job, _publish))


def publish_one(job: Job) -> None:
    asyncio.run(with_connection(job, _publish_one))


def consume(job: Job) -> None:
    asyncio.run(with_connection(job, _consume))


def call(job: Job) -> None:
    asyncio.run(with_connection(job, _call))


def call_64(job: Job) -> None:
    asyncio.run(with_connection(job, _call_64))


async def with_connection(job: Job, work: Any) -> None:
    async with await aio_pika.connect_robust(job.url) as connection:
        await work(job, connection)


def _order() -> aio_pika.Message:
    return aio_pika.Message(BODY, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)


async def _publish(job: Job, connection: AbstractRobustConnection) -> None:
    exchange = (await connection.channel(publisher_confirms=True)).default_exchange
    window = asyncio.Semaphore(WINDOW)

    async def one() -> None:
        async with window:
            await exchange.publish(_order(), job.queue)

    job.watch.start()
    await asyncio.gather(*(one() for _ in range(job.n)))
    job.watch.stop()


async def _publish_one(job: Job, connection: AbstractRobustConnection) -> None:
    exchange = (await connection.channel(publisher_confirms=True)).default_exchange
    job.watch.start()
    for _ in range(job.n):
        await exchange.publish(_order(), job.queue)
    job.watch.stop()


async def _consume(job: Job, connection: AbstractRobustConnection) -> None:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(job.queue)
    handled = 0
    job.watch.start()
    async with queue.iterator() as messages:
        async for message in messages:
            json.loads(message.body)
            await message.ack()
            handled += 1
            if handled == job.n:
                job.watch.stop()
                break


class Caller:
    """Requests over direct reply-to; a future each."""

    def __init__(self, connection: AbstractRobustConnection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._waiting: dict[str | None, asyncio.Future[bytes]] = {}

    async def open(self) -> None:
        channel = await self._connection.channel(publisher_confirms=False)
        self._exchange = channel.default_exchange
        replies = await channel.get_queue(REPLY_TO, ensure=False)
        await replies.consume(self._on_reply, no_ack=True)

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        self._waiting.pop(message.correlation_id).set_result(message.body)

    async def call(self, number: int) -> Any:
        reply = self._waiting[str(number)] = asyncio.get_running_loop().create_future()
        request = aio_pika.Message(
            json.dumps(MESSAGE).encode(),
            content_type="application/json",
            reply_to=REPLY_TO,
            correlation_id=str(number),
        )
        await self._exchange.publish(request, self._queue)
        return json.loads(await reply)


async def _call(job: Job, connection: AbstractRobustConnection) -> None:
    caller = Caller(connection, job.queue)
    await caller.open()
    await caller.call(-1)
    job.watch.start()
    for number in range(job.n):
        reply = await caller.call(number)
    job.watch.stop()
    assert reply == MESSAGE


async def _call_64(job: Job, connection: AbstractRobustConnection) -> None:
    each = max(1, job.n // THREADS)
    job.n = each * THREADS
    caller = Caller(connection, job.queue)
    await caller.open()
    await caller.call(-1)

    async def calls(first: int) -> None:
        for number in range(first, first + each):
            await caller.call(number)

    workers: list[Coroutine[Any, Any, None]] = [calls(number * each) for number in range(THREADS)]
    job.watch.start()
    await asyncio.gather(*workers)
    job.watch.stop()
