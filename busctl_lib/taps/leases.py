"""The firehose lease: tracing of a vhost is on while somebody looks, and off again after the last one has left.

The flag belongs to the broker, so each tail says on its binding to `amq.rabbitmq.trace` whether tracing was switched on
by a tail (`busctl-lease`), for others to inherit the duty to switch it off; whoever leaves and finds no other binding
does. A file with a lock tells a later run on this machine of a tail that was killed:

    file written, queue bound | killed here: tracing is still off, the file is removed by the next run
    tracing switched on       | killed here: the next run switches it off, unless somebody is bound there
    queue deleted, tracing off| killed here: as above, or nothing is left to do but to remove the file

The next run is the next one that opens a tap, of either kind, on the same cluster.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import platformdirs

from busctl_lib.errors import BusError, VhostNotFound
from busctl_lib.management import BindingInfo, ManagementClient

logger = logging.getLogger(__name__)

TRACE_EXCHANGE = "amq.rabbitmq.trace"
MARK = "busctl-lease"
"""The binding argument of a tail whose tracing was switched on by a tail."""

_TRIES = 3


def lease_folder() -> Path:
    """Where the taps of this user keep their leases, for the next run to find."""
    return platformdirs.user_state_path("busctl") / "leases"


class _Record(msgspec.Struct):
    """What a lease file says. No secrets: an address without credentials."""

    cluster: str
    vhost: str
    queue: str
    api_url: str
    pid: int


class TracingLease:
    """The right to have the tracing of one vhost on, and the duty to leave it as it was.

    Args:
        management: An administrator's client.
        vhost: Whose tracing.
        queue: The queue that the tap binds to `amq.rabbitmq.trace`.
        folder: Where the lease file lives while the lease is held.
    """

    def __init__(self, management: ManagementClient, vhost: str, queue: str, folder: Path) -> None:
        self._management = management
        self._vhost = vhost
        self._queue = queue
        self._folder = folder
        self._file: _LeaseFile | None = None
        self.duty = False
        """Whether it is on us to switch tracing off at the end."""
        self.left_behind: str | None = None
        """What could not be given back, in one sentence."""

    @property
    def mark(self) -> dict[str, Any]:
        """The arguments for the bindings of the tap's queue."""
        return {MARK: True} if self.duty else {}

    def is_on(self) -> bool:
        """Read the flag."""
        return bool(self._management.vhost(self._vhost).tracing)

    def prepare(self) -> None:
        """Find out whose tracing it is, and write down that we are about to switch it on; before the queue is bound."""
        on = self.is_on()
        if not on or any(MARK in (info.arguments or {}) for info in self._others()):
            self._take_duty()

    def switch_on(self) -> None:
        """Switch tracing on; the queue is bound before, so that no message is missed and nobody leaves it on behind us.

        Effect: the tracing flag of the vhost, until `give_back`.

        Raises:
            ApiForbidden: this user may not.
        """
        self._take_duty()
        self._management.set_tracing(self._vhost, True)

    def give_back(self) -> None:
        """Switch tracing off if that is our duty and nobody else looks; the tap's queue is deleted before."""
        if not self.duty:
            return
        for attempt in range(_TRIES):
            try:
                done = _switch_off_if_unused(self._management, self._vhost, self._queue)
            except VhostNotFound:
                done = True
            except BusError as error:
                if attempt == _TRIES - 1:
                    self.left_behind = (
                        f"tracing of vhost {self._vhost} could not be switched off ({error}); "
                        f"the next tail does it, or: rabbitmqctl trace_off -p {self._vhost}"
                    )
                continue
            if done:
                self.duty = False
            else:
                self.left_behind = (
                    f"tracing of vhost {self._vhost} stays on: somebody else is bound to {TRACE_EXCHANGE}"
                )
            break
        if self._file is not None:
            self._file.close(remove=not self.duty)
            self._file = None

    def _take_duty(self) -> None:
        if self._file is None:
            cluster = self._management.overview().cluster_name or ""
            record = _Record(cluster, self._vhost, self._queue, self._management.url, os.getpid())
            self._file = _LeaseFile.create(self._folder, record)
        self.duty = True

    def _others(self) -> list[BindingInfo]:
        return _bound_others(self._management, self._vhost, self._queue)


def clean_leases(management: ManagementClient, folder: Path) -> list[str]:
    """Switch off the tracing that killed tails of this machine left on; returns what was done, a sentence each.

    Effect: the tracing flag of vhosts of this cluster where a lease file has no living owner and nobody is bound to
    `amq.rabbitmq.trace`. Files of other clusters stay. Trouble is logged and leaves the file for a later run.
    """
    if management.read_only or not folder.is_dir():
        return []
    for draft in folder.glob("*.draft"):  # its owner died before anything was changed
        if (unfinished := _LeaseFile.adopt(draft)) is not None:
            unfinished.close(remove=True)
    paths = sorted(folder.glob("*.json"))
    done = []
    cluster: str | None = None
    for path in paths:
        file = _LeaseFile.adopt(path)
        if file is None:
            continue
        try:
            cluster = cluster if cluster is not None else management.overview().cluster_name or ""
            sentence, settled = _clean(management, file.record, cluster)
        except BusError as error:
            logger.warning("the lease of a killed tail is left for later (%s): %s", path.name, error)
            sentence, settled = None, False
        file.close(remove=settled)
        if sentence is not None:
            done.append(sentence)
    return done


def _clean(management: ManagementClient, record: _Record | None, cluster: str) -> tuple[str | None, bool]:
    """What was done about one lease, and whether it is settled."""
    if record is None:
        return None, True
    if record.cluster != cluster:
        return None, False
    try:
        if not management.vhost(record.vhost).tracing:
            return None, True
        if not _switch_off_if_unused(management, record.vhost, record.queue):
            return None, False
    except VhostNotFound:
        return None, True
    return f"tracing of vhost {record.vhost} was left on by a tail that was killed: switched off", True


def _bound_others(management: ManagementClient, vhost: str, queue: str) -> list[BindingInfo]:
    return [info for info in management.exchange_bindings(vhost, TRACE_EXCHANGE) if info.destination != queue]


def _switch_off_if_unused(management: ManagementClient, vhost: str, queue: str) -> bool:
    """Switch off unless it is off, or somebody else looks; False if that is somebody who will not switch it off."""
    if not management.vhost(vhost).tracing:  # where it could not be switched on, there is nothing to give back
        return True
    others = _bound_others(management, vhost, queue)
    if not others:
        management.set_tracing(vhost, False)
        return True
    return any(MARK in (info.arguments or {}) for info in others)


class _LeaseFile:
    """A file whose owner lives as long as its lock is held: the kernel releases it however the process ends."""

    def __init__(self, path: Path, handle: BinaryIO, record: _Record | None) -> None:
        self.record = record
        self._path = path
        self._handle = handle

    @classmethod
    def create(cls, folder: Path, record: _Record) -> _LeaseFile:
        """Write and lock a file of our own. Raises BusError when that cannot be done."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return cls._create(folder / f"{record.queue}.json", record)
        except OSError as error:
            raise BusError(
                f"a firehose that is killed could not be switched off later: {folder} cannot be written: "
                f"{error.strerror}",
                hint="make that folder writable",
            ) from None

    @classmethod
    def _create(cls, path: Path, record: _Record) -> _LeaseFile:
        draft = path.with_suffix(".draft")  # locked and filled before it gets the name that counts
        while True:
            handle = os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(msgspec.json.encode(record))
            handle.flush()
            os.fsync(handle.fileno())
            try:
                draft.rename(path)
            except FileNotFoundError:  # another run took it for a dead one's before it was locked
                handle.close()
                continue
            return cls(path, handle, record)

    @classmethod
    def adopt(cls, path: Path) -> _LeaseFile | None:
        """Take over the file of a dead owner; None when the owner lives, or the file is gone or not ours."""
        try:
            handle = path.open("r+b")
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return None
        try:
            record = msgspec.json.decode(handle.read(), type=_Record)
        except msgspec.MsgspecError:
            record = None
        return cls(path, handle, record)

    def close(self, *, remove: bool) -> None:
        """Give up the lock, and remove the file while it is still held."""
        if remove:
            self._path.unlink(missing_ok=True)
        self._handle.close()
