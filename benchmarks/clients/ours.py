"""busctl_lib, by its public interface and with its defaults (but the prefetch, which all consumers share)."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from job import Job
from message import MESSAGE
from tasks import PREFETCH, THREADS

from busctl_lib import MessageBroker, MessageConsumer, MessagePublisher, RPCConsumer

_SAMPLE_EVERY = 20_000


def _publisher(broker: MessageBroker, job: Job) -> MessagePublisher:
    """A publisher whose link stands: it opens at the first publish."""
    publisher = MessagePublisher(broker)
    publisher.publish(job.queue, MESSAGE)
    job.untimed = 1
    return publisher


def publish(job: Job) -> None:
    with MessageBroker(url=job.url) as broker:
        publisher = _publisher(broker, job)
        job.watch.start()
        report = publisher.publish_many((job.queue, MESSAGE) for _ in range(job.n))
        job.watch.stop()
    assert report.confirmed == job.n, report.counts


def publish_one(job: Job) -> None:
    with MessageBroker(url=job.url) as broker:
        publisher = _publisher(broker, job)
        job.watch.start()
        for _ in range(job.n):
            publisher.publish(job.queue, MESSAGE)
        job.watch.stop()


def consume(job: Job) -> None:
    handled = 0
    all_handled = threading.Event()

    def handle(_message: dict[str, Any], _properties: object) -> None:
        nonlocal handled
        handled += 1
        if handled == job.n:
            job.watch.stop()
            all_handled.set()

    with MessageBroker(url=job.url) as broker:
        consumer = MessageConsumer(broker, prefetch=PREFETCH)
        consumer.register_handler(MESSAGE["action"], handle)
        job.watch.start()
        consumer.start_consuming(job.queue, background=True)
        all_handled.wait()
        consumer.stop()


def call(job: Job) -> None:
    with MessageBroker(url=job.url) as broker:
        rpc = RPCConsumer(broker)
        rpc.call(queue_name=job.queue, message=MESSAGE)
        job.watch.start()
        for _ in range(job.n):
            reply = rpc.call(queue_name=job.queue, message=MESSAGE)
        job.watch.stop()
        assert reply == MESSAGE


def call_64(job: Job) -> None:
    each = max(1, job.n // THREADS)
    job.n = each * THREADS
    failures: list[BaseException] = []
    with MessageBroker(url=job.url) as broker:
        rpc = RPCConsumer(broker)
        rpc.call(queue_name=job.queue, message=MESSAGE)

        def caller() -> None:
            try:
                for _ in range(each):
                    rpc.call(queue_name=job.queue, message=MESSAGE, timeout=30)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=caller) for _ in range(THREADS)]
        job.watch.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        job.watch.stop()
    assert not failures, failures[0]


def memory(job: Job) -> None:
    every = max(1, min(_SAMPLE_EVERY, job.n // 50))

    def messages() -> Iterator[tuple[str, dict[str, Any]]]:
        for number in range(job.n):
            if number % every == 0:
                job.samples.append((number, _resident_bytes()))
            yield job.queue, MESSAGE

    with MessageBroker(url=job.url) as broker:
        publisher = _publisher(broker, job)
        job.watch.start()
        report = publisher.publish_many(messages())
        job.watch.stop()
        job.samples.append((job.n, _resident_bytes()))
    assert report.confirmed == job.n, report.counts


def _resident_bytes() -> int:
    """Resident memory now; where the system does not tell, the most there has been."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
