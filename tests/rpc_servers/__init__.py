"""Servers nobody here wrote, each a program of its own: the examples of their libraries' documentation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_until

from busctl_lib import BusError, MessageBroker

_HERE = Path(__file__).parent


@contextmanager
def serving(broker: MessageBroker, url: str, program: str, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; it consumes the queue when the block begins."""
    command = [sys.executable, str(_HERE / f"{program}.py"), url, queue]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _consumers(broker, process, queue), 30, what=f"{program} consumes {queue}")
        yield process
    finally:
        process.kill()
        process.communicate()


def _consumers(broker: MessageBroker, process: subprocess.Popen[bytes], queue: str) -> int:
    if process.poll() is not None:
        raise RuntimeError(process.communicate()[1].decode()[-2000:])
    try:
        return broker.declare_queue(queue, passive=True).consumer_count
    except BusError:
        return 0
