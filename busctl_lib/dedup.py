"""Which messages were handled before: claimed while a handler is at work, remembered for a window afterwards.

A claim of a process that died ends by itself (SQLite: after its lease; memory dies with it), so a message whose
handler did not finish is handled again and one whose ack got lost is not. What no store can see is a handler that
finished in a process that was killed before it could be noted: that message is handled twice.

Nor can it see whether the copy for a dead-letter queue got there before a kill. So that none is lost it is put there
once more, and such twins lie there together: AMQP has one step that moves a message from queue to queue whole, a
transaction, and that acks it also where its publish fails (queue full, node gone). Twins are of one stage: when both
are replayed, one is handled and the other is SEEN.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from busctl_lib.errors import BusError, ConfigError

DAY_S = 86_400.0
"""How long what was handled is remembered, unless said otherwise."""
_SWEEP_S = 30.0


class Claim(enum.Enum):
    """What became of a claim."""

    OURS = "ours"
    """Handle it; then `done`, `moved` or `release`."""
    BUSY = "busy"
    """Somebody is at it, or died at it a moment ago: ask again."""
    SEEN = "seen"
    """Handled before, or a copy of it goes on elsewhere: nothing is left to do."""


class SeenStore(Protocol):
    """Where it is remembered what was handled. Thread: any."""

    def claim(self, key: str, stage: int) -> Claim:
        """Ask to handle a message; `stage` is how far its copy has come, as `retry.stage_of` reads it."""

    def done(self, key: str) -> None:
        """It was handled: SEEN from now on."""

    def moved(self, key: str, stage: int) -> None:
        """An attempt failed and the copy of this stage goes on, to be tried again or dead: earlier ones are SEEN."""

    def release(self, key: str) -> None:
        """It was not handled: the next claim gets it."""


class MemorySeenStore:
    """Remembers within this process.

    Args:
        window_s: for how long.
        most: how many messages at once; the oldest are forgotten first.
    """

    def __init__(self, window_s: float = 600.0, *, most: int = 1_000_000) -> None:
        self._window_s = _checked(window_s)
        self._most = most
        self._lock = threading.Lock()
        self._busy: dict[str, int] = {}
        """Key -> stage, while a handler is at work."""
        self._seen: dict[str, tuple[float, int | None]] = {}
        """Key -> until when (monotonic), and the stage whose copy goes on; None is done. Oldest first."""

    def claim(self, key: str, stage: int) -> Claim:
        """As `SeenStore.claim`."""
        with self._lock:
            self._forget_old()
            if key in self._busy:
                return Claim.BUSY
            seen = self._seen.get(key)
            if seen is not None and (seen[1] is None or seen[1] > stage):
                return Claim.SEEN
            self._busy[key] = stage
            return Claim.OURS

    def done(self, key: str) -> None:
        """As `SeenStore.done`."""
        self._remember(key, None)

    def moved(self, key: str, stage: int) -> None:
        """As `SeenStore.moved`."""
        self._remember(key, stage)

    def release(self, key: str) -> None:
        """As `SeenStore.release`."""
        with self._lock:
            self._busy.pop(key, None)

    def _remember(self, key: str, stage: int | None) -> None:
        with self._lock:
            self._busy.pop(key, None)
            self._seen.pop(key, None)
            self._seen[key] = (time.monotonic() + self._window_s, stage)

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest][0] > now and len(self._seen) <= self._most:
                return
            del self._seen[oldest]


_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    key TEXT PRIMARY KEY, attempt INTEGER, owner TEXT, until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_until ON seen (until);
"""
_CLAIM = """
INSERT INTO seen (key, attempt, owner, until) VALUES (:key, :attempt, :owner, :lease)
ON CONFLICT (key) DO UPDATE SET attempt = :attempt, owner = :owner, until = :lease
WHERE until <= :now OR (owner IS NULL AND attempt <= :attempt)
"""
# owner set: claimed until the lease ends; else attempt (the stage) set: that copy goes on; else done.


class SqliteSeenStore:
    """Remembers in a file that any number of processes of one machine share, and that outlives them.

    Args:
        path: the file; made where it is not there, only for its owner. Not on a network file system.
        window_s: for how long.
        lease_s: a claim whose process died is free again after this; a living one renews it.

    Raises:
        BusError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], window_s: float = DAY_S, *, lease_s: float = 30.0) -> None:
        self._path = Path(path)
        self._window_s = _checked(window_s)
        self._lease_s = _checked(lease_s)
        self._owner = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._ours: set[str] = set()
        self._swept_at = 0.0
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None
        with self._told():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(self._path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            # A kill loses nothing; a power cut may lose the last moments, whose messages are then handled again.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)

    def claim(self, key: str, stage: int) -> Claim:
        """As `SeenStore.claim`. Raises BusError when the file cannot be used."""
        now = time.time()
        given = {"key": key, "attempt": stage, "owner": self._owner, "now": now, "lease": now + self._lease_s}
        with self._told(), self._lock:
            self._sweep(now)
            if self._database.execute(_CLAIM, given).rowcount:
                self._ours.add(key)
                self._start_renewing()
                return Claim.OURS
            row = self._database.execute("SELECT owner FROM seen WHERE key = ?", (key,)).fetchone()
        return Claim.BUSY if row is None or row[0] is not None else Claim.SEEN

    def done(self, key: str) -> None:
        """As `SeenStore.done`."""
        self._settle(key, None)

    def moved(self, key: str, stage: int) -> None:
        """As `SeenStore.moved`."""
        self._settle(key, stage)

    def release(self, key: str) -> None:
        """As `SeenStore.release`."""
        with self._told(), self._lock:
            self._ours.discard(key)
            self._database.execute("DELETE FROM seen WHERE key = ? AND owner = ?", (key, self._owner))

    def close(self) -> None:
        """Close the file; what is claimed is free after its lease."""
        self._closed.set()
        if self._renewer is not None:
            self._renewer.join()
        with self._lock:
            self._database.close()

    def _settle(self, key: str, stage: int | None) -> None:
        row = (key, stage, time.time() + self._window_s)
        with self._told(), self._lock:
            self._ours.discard(key)
            self._database.execute("INSERT OR REPLACE INTO seen (key, attempt, until) VALUES (?, ?, ?)", row)

    def _sweep(self, now: float) -> None:
        if now - self._swept_at > _SWEEP_S:
            self._swept_at = now
            self._database.execute("DELETE FROM seen WHERE until <= ?", (now,))

    def _start_renewing(self) -> None:
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="busctl-seen", daemon=True)
            self._renewer.start()

    def _renew(self) -> None:
        while not self._closed.wait(self._lease_s / 4):
            with contextlib.suppress(BusError), self._told(), self._lock:
                if self._ours:
                    until = time.time() + self._lease_s
                    self._database.executemany(
                        "UPDATE seen SET until = ? WHERE key = ? AND owner = ?",
                        [(until, key, self._owner) for key in self._ours],
                    )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise BusError(f"the deduplication file {self._path} cannot be used: {error}") from None


def _checked(seconds: float) -> float:
    if not seconds > 0:
        raise ConfigError(f"a time window must be above 0 s, found {seconds:g}")
    return seconds
