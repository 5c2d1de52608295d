"""The RPC server of aio-pika's version of the tutorial, with the queue's name and the address as arguments.

usage: aio_pika_tutorial.py URL QUEUE
"""

import asyncio
import sys

from aio_pika import Message, connect
from aio_pika.abc import AbstractIncomingMessage


def fib(n):
    if n == 0:
        return 0
    if n == 1:
        return 1
    return fib(n - 1) + fib(n - 2)


async def main():
    connection = await connect(sys.argv[1])
    channel = await connection.channel()
    exchange = channel.default_exchange
    queue = await channel.declare_queue(sys.argv[2], durable=True)

    async with queue.iterator() as qiterator:
        message: AbstractIncomingMessage
        async for message in qiterator:
            async with message.process(requeue=False):
                assert message.reply_to is not None

                n = int(message.body.decode())
                response = str(fib(n)).encode()

                await exchange.publish(
                    Message(body=response, correlation_id=message.correlation_id),
                    routing_key=message.reply_to,
                )


asyncio.run(main())
