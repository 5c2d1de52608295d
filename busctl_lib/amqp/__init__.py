"""The one door to AMQP: no other package imports pika."""
