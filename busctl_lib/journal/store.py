"""The journal's file: operations, open batches, audit lines, and who runs what."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import platformdirs

from busctl_lib.errors import BusError, ConfigError
from busctl_lib.journal.claims import Claims
from busctl_lib.journal.records import Intent, Line, OpenBatch, Operation, State, Verdict

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, kind TEXT, vhost TEXT, broker TEXT, source TEXT, target TEXT, state TEXT, plan TEXT,
    started_at REAL, ended_at REAL, who TEXT, note TEXT, undoes TEXT, undone_by TEXT, trash TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open_batches (operation TEXT, number INTEGER, began_at REAL, exact INTEGER, content BLOB,
    PRIMARY KEY (operation, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (operation TEXT, seq INTEGER, identity BLOB, message_id TEXT, from_exchange TEXT,
    from_key TEXT, to_exchange TEXT, to_key TEXT, outcome TEXT, reason TEXT, at REAL,
    PRIMARY KEY (operation, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept_bodies (operation TEXT, seq INTEGER, content BLOB,
    PRIMARY KEY (operation, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fixed_sets (operation TEXT, identity BLOB, copies INTEGER,
    PRIMARY KEY (operation, identity)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS newest ON operations (started_at);
"""


_encode = msgspec.msgpack.Encoder().encode
_intents = msgspec.msgpack.Decoder(list[Intent]).decode
_intent = msgspec.msgpack.Decoder(Intent).decode


def journal_path() -> Path:
    """Where the journal of this user is."""
    return platformdirs.user_state_path("busctl") / "journal.sqlite"


class Journal:
    """Operations of this user, of all brokers.

    Raises:
        BusError: it cannot be read or written (a full disk); from every method. Nothing half is left in it.

    Thread: any; one statement at a time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or journal_path()
        self._lock = threading.RLock()
        self._claims = Claims(self.path.parent / "operations")
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            os.chmod(self.path, 0o600)  # it holds messages
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it and let go of what it claimed."""
        with self._lock:
            self._claims.close()
            self._db.close()

    # -- operations

    def begin(self, operation: Operation, fixed: Counter[bytes] | None = None) -> Operation:
        """Write a new operation, with the set of messages it is about, and claim it for this process."""
        operation.started_at = operation.started_at or time.time()
        operation.who = operation.who or f"{_user()}@{socket.gethostname()}"
        self.claim(operation.id)
        with self._transaction() as db:
            db.execute(
                "INSERT INTO operations (id, kind, vhost, broker, source, target, state, plan, started_at, who, note,"
                " undoes, trash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(operation.id, operation.kind, operation.vhost, operation.broker, operation.source),
                    *(operation.target, operation.state, self._plan(operation), operation.started_at, operation.who),
                    *(operation.note, operation.undoes, operation.trash),
                ),
            )
            if fixed:
                rows = ((operation.id, identity, copies) for identity, copies in fixed.items())
                db.executemany("INSERT INTO fixed_sets VALUES (?,?,?)", rows)
        return operation

    def set_state(self, operation: Operation, state: State, note: str | None = None) -> None:
        """Write how an operation stands; an end gets its time."""
        operation.state, operation.note = state, note or operation.note
        if state not in ("planned", "running"):
            operation.ended_at = time.time()
        with self._transaction() as db:
            db.execute(
                "UPDATE operations SET state=?, note=?, ended_at=?, plan=?, trash=?, undone_by=? WHERE id=?",
                (
                    *(state, operation.note, operation.ended_at, self._plan(operation), operation.trash),
                    *(operation.undone_by, operation.id),
                ),
            )

    def set_undone(self, operation: Operation) -> None:
        """Write by which operation it was undone."""
        with self._transaction() as db:
            db.execute("UPDATE operations SET undone_by=? WHERE id=?", (operation.undone_by, operation.id))

    def operation(self, id: str) -> Operation:  # noqa: A002 - its name in JSON
        """One operation by its id or the beginning of it. Raises ConfigError when there is none, or more than one."""
        found = self._operations("WHERE id = ?", (id,)) or self._operations(
            "WHERE substr(id, 1, ?) = ? LIMIT 2", (len(id), id)
        )
        if len(found) != 1:
            what = "no operation" if not found else "more than one operation"
            raise ConfigError(f"{what} {id!r} in the journal", hint="`busctl ops` lists them")
        return found[0]

    def operations(self, limit: int = 100) -> list[Operation]:
        """The newest operations first."""
        return self._operations("ORDER BY started_at DESC LIMIT ?", (limit,))

    def undoing(self, id: str) -> list[Operation]:  # noqa: A002 - its name in JSON
        """The operations that undo another one, or began to."""
        return self._operations("WHERE undoes = ?", (id,))

    def _operations(self, where: str, values: tuple[Any, ...]) -> list[Operation]:
        names = "id, kind, vhost, broker, source, target, state, plan, started_at, ended_at, who, note, undoes,"
        with self._told(), self._lock:
            rows = self._db.execute(f"SELECT {names} undone_by, trash FROM operations {where}", values).fetchall()  # noqa: S608
        return [self._operation(row) for row in rows]

    def _operation(self, row: tuple[Any, ...]) -> Operation:
        fields = Operation.__struct_fields__
        names = ("id", "kind", "vhost", "broker", "source", "target", "state", "plan", "started_at", "ended_at", "who")
        known = dict(zip((*names, "note", "undoes", "undone_by", "trash"), row, strict=True))
        plan = msgspec.json.decode(known["plan"] or "{}", type=dict[str, Any])
        known |= {"plan": plan.get("plan", {}), "planned": plan.get("planned", 0)}
        operation = Operation(**{name: value for name, value in known.items() if name in fields})
        operation.moved, operation.undecided = plan.get("moved", 0), plan.get("undecided", 0)
        for outcome, count in self.counts(operation.id).items():
            if outcome in ("moved", "returned", "failed", "unknown"):
                setattr(operation, outcome, count)
        if operation.state in ("planned", "running") and not self._claims.is_taken(operation.id):
            operation.state = "interrupted"
        return operation

    @staticmethod
    def _plan(operation: Operation) -> str:
        names = ("planned", "moved", "undecided", "plan")
        return msgspec.json.encode({name: getattr(operation, name) for name in names}).decode()

    # -- messages

    def open_batch(self, operation: str, number: int, intents: list[Intent], *, exact: bool) -> None:
        """Write down what is about to be sent."""
        row = (operation, number, time.time(), exact, _encode(intents))
        with self._transaction() as db:
            db.execute("INSERT INTO open_batches VALUES (?,?,?,?,?)", row)

    def close_batch(self, operation: str, number: int | None, verdicts: Iterable[Verdict]) -> None:
        """Write down what became of an open batch, or of messages that were in none (None)."""
        at = time.time()
        rows, bodies = [], []
        for verdict in verdicts:
            each = verdict.intent
            rows.append(
                (
                    *(operation, each.seq, each.identity, each.message_id, each.exchange, each.routing_key),
                    *(each.to_exchange, each.to_key, verdict.outcome, verdict.reason, at),
                )
            )
            if verdict.outcome == "unknown" and each.body is not None:
                bodies.append((operation, each.seq, _encode(each)))
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO messages VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
            db.executemany("INSERT OR REPLACE INTO kept_bodies VALUES (?,?,?)", bodies)
            if number is not None:
                db.execute("DELETE FROM open_batches WHERE operation=? AND number=?", (operation, number))

    def drop_batch(self, operation: str, number: int) -> None:
        """Forget an open batch of which nothing was done."""
        with self._transaction() as db:
            db.execute("DELETE FROM open_batches WHERE operation=? AND number=?", (operation, number))

    def open_batches(self, operation: str) -> list[OpenBatch]:
        """What was open when the operation was last left."""
        query = "SELECT number, began_at, exact, content FROM open_batches WHERE operation=? ORDER BY number"
        with self._told(), self._lock:
            rows = self._db.execute(query, (operation,)).fetchall()
        return [OpenBatch(number, at, bool(exact), _intents(content)) for number, at, exact, content in rows]

    def counts(self, operation: str) -> Counter[str]:
        """How many messages had each outcome."""
        query = "SELECT outcome, count(*) FROM messages WHERE operation=? GROUP BY outcome"
        with self._told(), self._lock:
            return Counter(dict(self._db.execute(query, (operation,)).fetchall()))

    def identities(self, operation: str, *outcomes: str) -> Counter[bytes]:
        """What had one of the outcomes, by identity."""
        marks = ",".join("?" * len(outcomes))
        query = (
            f"SELECT identity, count(*) FROM messages WHERE operation=? AND outcome IN ({marks})"  # noqa: S608
            " GROUP BY identity"
        )
        with self._told(), self._lock:
            return Counter(dict(self._db.execute(query, (operation, *outcomes)).fetchall()))

    def seqs(self, operation: str, *outcomes: str) -> dict[bytes, int]:
        """The number of the last message of each identity that had one of the outcomes."""
        marks = ",".join("?" * len(outcomes))
        query = (
            f"SELECT identity, max(seq) FROM messages WHERE operation=? AND outcome IN ({marks})"  # noqa: S608
            " GROUP BY identity"
        )
        with self._told(), self._lock:
            return dict(self._db.execute(query, (operation, *outcomes)).fetchall())

    def intent(self, operation: str, seq: int) -> Intent:
        """A message that has an outcome, without its content."""
        query = (
            "SELECT seq, identity, message_id, from_exchange, from_key, to_exchange, to_key FROM messages"
            " WHERE operation=? AND seq=?"
        )
        with self._told(), self._lock:
            return Intent(*self._db.execute(query, (operation, seq)).fetchone())

    def fixed_set(self, operation: str) -> Counter[bytes]:
        """The messages an operation is about, by identity; empty where it is about a number of them."""
        with self._told(), self._lock:
            rows = self._db.execute(
                "SELECT identity, copies FROM fixed_sets WHERE operation=?", (operation,)
            ).fetchall()
        return Counter(dict(rows))

    def next_seq(self, operation: str) -> int:
        """The first free number of a message."""
        query = "SELECT max(seq) FROM messages WHERE operation=?"
        with self._told(), self._lock:
            highest = self._db.execute(query, (operation,)).fetchone()[0]
        for batch in self.open_batches(operation):
            highest = max(highest or 0, *(intent.seq for intent in batch.intents))
        return (highest or 0) + 1

    def kept(self, operation: str) -> Iterator[Intent]:
        """The messages of unknown outcome whose bodies are kept here."""
        with self._told(), self._lock:
            rows = self._db.execute("SELECT content FROM kept_bodies WHERE operation=? ORDER BY seq", (operation,))
            contents = [row[0] for row in rows.fetchall()]
        return (_intent(content) for content in contents)

    def forget_bodies(self, operation: str, seqs: Iterable[int]) -> None:
        """Drop kept messages that are settled."""
        with self._transaction() as db:
            db.executemany("DELETE FROM kept_bodies WHERE operation=? AND seq=?", [(operation, seq) for seq in seqs])

    def forget(self, operation: str, seqs: Iterable[int]) -> None:
        """Strike messages out: they are to be done again."""
        rows = [(operation, seq) for seq in seqs]
        with self._transaction() as db:
            db.executemany("DELETE FROM messages WHERE operation=? AND seq=?", rows)
            db.executemany("DELETE FROM kept_bodies WHERE operation=? AND seq=?", rows)

    def leave_unknown(self, operation: str, seqs: Iterable[int], reason: str) -> None:
        """Settle unknown messages as left alone; bodies that are kept stay."""
        query = "UPDATE messages SET outcome='failed', reason=? WHERE operation=? AND seq=? AND outcome='unknown'"
        with self._transaction() as db:
            db.executemany(query, [(reason, operation, seq) for seq in seqs])

    def lines(self, operation: str, *outcomes: str) -> Iterator[Line]:
        """The audit of one operation, a line a message."""
        after = 0
        query = (
            "SELECT seq, identity, message_id, from_exchange, from_key, to_exchange, to_key, outcome, reason, at"
            " FROM messages WHERE operation=? AND seq>? ORDER BY seq LIMIT 1000"
        )
        while True:
            with self._told(), self._lock:
                rows = self._db.execute(query, (operation, after)).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield from (_line(operation, row) for row in rows if not outcomes or row[7] in outcomes)

    # -- who runs it

    def claim(self, operation: str) -> None:
        """Make an operation this process's own until it ends. Raises GuardRefused when another process runs it."""
        with self._told():
            self._claims.take(operation)

    def release(self, operation: str) -> None:
        """Let go of a claim; the file of an ended operation goes too."""
        self._claims.release(operation)

    # -- how

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BusError(
                f"the journal {self.path} cannot be written: {reason}", hint="is the disk full, or not yours?"
            ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return str(os.getuid())


def _line(operation: str, row: Sequence[Any]) -> Line:
    seq, identity, message_id, exchange, key, to_exchange, to_key, outcome, reason, at = row
    return Line(
        operation=operation,
        seq=seq,
        identity=identity.hex(),
        outcome=outcome,
        exchange=exchange,
        routing_key=key,
        to_exchange=to_exchange,
        to_routing_key=to_key,
        at=at,
        message_id=message_id,
        reason=reason,
    )
