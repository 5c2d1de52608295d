"""busctl: the terminal operations console for RabbitMQ."""
