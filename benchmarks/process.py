"""Child processes: started apart from the terminal, and gone with their parent however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).parent


@contextmanager
def child(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this folder; it is killed at the end of the block if it still runs.

    It has a session of its own, so that Ctrl-C reaches the parent only, which then cleans up in order.
    """
    process = subprocess.Popen(
        [sys.executable, str(_HERE / program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end_with_parent() -> None:
    """In a child: end when the pipe from the parent does."""
    pipe = sys.stdin.fileno()

    def wait() -> None:
        os.read(pipe, 1)  # not through sys.stdin, whose lock would be held while the interpreter ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
