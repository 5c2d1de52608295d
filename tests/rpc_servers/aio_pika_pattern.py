"""aio-pika's RPC pattern with JSON bodies: the queue is the method, its errors are a message type.

usage: aio_pika_pattern.py URL QUEUE
"""

import asyncio
import sys

from aio_pika import connect
from aio_pika.patterns import JsonRPC


async def divide(*, a, b):
    return a / b


async def main():
    connection = await connect(sys.argv[1])
    channel = await connection.channel()
    rpc = await JsonRPC.create(channel)
    await rpc.register(sys.argv[2], divide)
    await asyncio.Future()


asyncio.run(main())
