"""The record of looks at one queue: a file of this user, written before each look and locked while it lasts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
import platformdirs

from busctl_lib.errors import BusError, GuardRefused

_BLOCK_BYTES = 1024
"""A record is written in one piece, over the former one: a kill leaves one of the two."""


class Looks(msgspec.Struct, kw_only=True):
    """What a file says. The names are for a person who finds it."""

    cluster: str
    vhost: str
    queue: str
    count: int
    """How often a message was delivered without success at most, looks included that never said how they ended."""
    redelivered: int = 0
    """The broker's count of redeliveries, our own included that it did not know yet."""
    told: tuple[int, int] = (0, 0)
    """What the broker said: messages delivered, and redelivered."""
    at: float = 0.0
    """When it was written, in seconds since 1970."""

    def is_of(self, other: Looks) -> bool:
        """Whether it speaks of the same queue."""
        return (self.cluster, self.vhost, self.queue) == (other.cluster, other.vhost, other.queue)


class Unreadable(BusError):
    """A record that cannot be read, or is another queue's: how often the queue was looked at is not known."""


def peek_folder() -> Path:
    """Where the looks of this user are counted."""
    return platformdirs.user_state_path("busctl") / "peeks"


class LooksFile:
    """The file of one queue.

    Args:
        folder: Where; `peek_folder()` by default.
        cluster, vhost, queue: Whose.
    """

    def __init__(self, folder: Path | None, cluster: str, vhost: str, queue: str) -> None:
        key = hashlib.sha256("\0".join((cluster, vhost, queue)).encode()).hexdigest()[:32]
        self.path = (folder or peek_folder()) / f"{key}.json"
        self._names = Looks(cluster=cluster, vhost=vhost, queue=queue, count=0)
        self._handle: BinaryIO | None = None

    def read(self) -> Looks | None:
        """Read what was written down last; None where nobody has looked.

        Raises:
            Unreadable: something is there, and does not say it.
        """
        queue = self._names.queue
        try:
            text = self.path.read_bytes().strip()
            found = msgspec.json.decode(text, type=Looks) if text else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"the record of looks at {queue} cannot be read: {self.path}: {error.strerror}") from None
        except msgspec.MsgspecError:
            raise Unreadable(f"the record of looks at {queue} is damaged: {self.path}") from None
        if found is not None and (not found.is_of(self._names) or found.count < 0):
            raise Unreadable(f"the record of looks at {queue} speaks of another queue: {self.path}")
        return found

    def lock(self) -> None:
        """Open the file for this process alone.

        Raises:
            GuardRefused: another look is under way. BusError: it cannot be written.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise BusError(
                f"looks at {self._names.queue} cannot be counted, and uncounted ones may cost messages: "
                f"{folder} cannot be written: {error.strerror}",
                hint="make that folder writable",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise GuardRefused(
                f"another look at {self._names.queue} is under way on this machine",
                hint="try again when it has ended",
            ) from None
        self._handle = handle

    def write(self, count: int, redelivered: int, told: tuple[int, int]) -> None:
        """Write it down, safely enough for a kill of this process. Raises BusError."""
        assert self._handle is not None
        made = msgspec.structs.replace(self._names, count=count, redelivered=redelivered, told=told, at=time.time())
        text = msgspec.json.encode(made)
        try:
            number = self._handle.fileno()
            room = max(len(text) + 1, _BLOCK_BYTES, os.fstat(number).st_size)
            os.pwrite(number, text.ljust(room - 1) + b"\n", 0)
        except OSError as error:
            raise BusError(f"a look at {self._names.queue} cannot be counted: {self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Give up the lock."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
