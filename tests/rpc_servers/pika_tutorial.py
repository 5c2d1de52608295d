"""The RPC server of the RabbitMQ tutorial for pika (tutorial six), with the queue's name and the address as arguments.

usage: pika_tutorial.py URL QUEUE
"""

import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))

channel = connection.channel()

channel.queue_declare(queue=sys.argv[2], durable=True)


def fib(n):
    if n == 0:
        return 0
    if n == 1:
        return 1
    return fib(n - 1) + fib(n - 2)


def on_request(ch, method, props, body):
    n = int(body)

    response = fib(n)

    ch.basic_publish(
        exchange="",
        routing_key=props.reply_to,
        properties=pika.BasicProperties(correlation_id=props.correlation_id),
        body=str(response),
    )
    ch.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue=sys.argv[2], on_message_callback=on_request)

channel.start_consuming()
