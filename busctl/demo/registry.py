"""Where a running demo says that it runs, so that `-c demo` in another terminal finds it.

Each demo holds a lock on its own file: a file without a lock was left behind by one that was killed, and is ignored.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

_NAME = "demo"
_LOCK_TRIES = 5


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A demo that runs now, as a context: its name and where its broker is, with credentials."""

    name: str
    amqp_url: str
    api_url: str


def folder() -> Path:
    """Name the folder of the files; it may not be there."""
    return Path(platformdirs.user_state_dir("busctl")) / "demos"


def running() -> list[RunningDemo]:
    """List the demos of this user that run at this moment: `demo`, then `demo-2` and so on."""
    found = []
    for path in sorted(folder().glob(f"{_NAME}*.json"), key=lambda path: (len(path.name), path.name)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open() as file:
            if _is_locked(file.fileno()):
                facts = json.load(file)
                found.append(RunningDemo(path.stem, str(facts["amqp_url"]), str(facts["api_url"])))
    return found


@contextlib.contextmanager
def registered(amqp_url: str, api_url: str) -> Iterator[str]:
    """Say that a demo runs for as long as the block does; yields the name of its context.

    Effect: a file only its user can read (it holds the password), gone afterwards.
    """
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    path, file = _take()
    try:
        os.ftruncate(file, 0)
        os.write(file, json.dumps({"amqp_url": amqp_url, "api_url": api_url}).encode())
        yield path.stem
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _take() -> tuple[Path, int]:
    """Open and lock the first name that nobody holds."""
    number = 1
    while True:
        path = folder() / (f"{_NAME}.json" if number == 1 else f"{_NAME}-{number}.json")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _lock(file) and _is(path, file):
            return path, file
        os.close(file)
        number += 1


def _lock(file: int) -> bool:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its owner, or a reader that is just looking
            time.sleep(0.02)
        else:
            return True
    return False


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is(path: Path, file: int) -> bool:
    """Whether the open file is still the one at the path: its last owner may have just removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
