"""Dead letters: which queues hold them, why they died, and what has one cause."""
