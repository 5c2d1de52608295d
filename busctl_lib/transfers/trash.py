"""The trash: what busctl takes away is kept in a capture first, so that it can be put back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.amqp.tables import Unencodable
from busctl_lib.amqp.topology import QueueSpec
from busctl_lib.broker import MessageBroker
from busctl_lib.captures import CaptureWriter
from busctl_lib.envelope import Delivery, Outcome
from busctl_lib.errors import BusError, GuardRefused, NotFound
from busctl_lib.journal import Operation, identity
from busctl_lib.management import ManagementClient
from busctl_lib.transfers.lull import Lull
from busctl_lib.transfers.reading import open_mover
from busctl_lib.transfers.works import header_of

TRASH_MESSAGES = 100_000
"""How many messages of one operation are kept."""
TRASH_BYTES = 1 << 30
"""And how many bytes of their bodies."""
_BATCH = 500
_IDLE_S = 0.25
_DEADLINE_S = 60.0


def trash_folder() -> Path:
    """Where the trash of this user is."""
    return platformdirs.user_state_path("busctl") / "trash"


class Trash:
    """The trash of one operation.

    Args:
        operation: Its id.
        folder: Where; `trash_folder()` by default.

    Raises:
        BusError: it cannot be written; from every method.
    """

    def __init__(self, operation: str, folder: Path | None = None) -> None:
        self.path = (folder or trash_folder()) / operation
        self._writer: CaptureWriter | None = None
        self._messages = self._bytes = 0

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages in, up to the bound; they are on the disk when this returns."""
        within = []
        for delivery in deliveries:
            self._bytes += len(delivery.body)
            self._messages += 1
            if self._messages <= TRASH_MESSAGES and self._bytes <= TRASH_BYTES:
                within.append(delivery)
        if within:
            writer = self._writer or self._open()
            for delivery in within:
                writer.write(delivery)
            writer.sync()

    def _open(self) -> CaptureWriter:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BusError(f"the trash {self.path} cannot be written: {error.strerror}") from error
        number = len(list(self.path.glob("*.jsonl.zst"))) + 1
        self._writer = CaptureWriter(self.path / f"{number:04}.jsonl.zst")
        return self._writer

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def empty_into_trash(broker: MessageBroker, queue: str, operation: Operation, waiting: int) -> int:
    """Take messages out of a queue, each into the trash first; what arrives later stays.

    Args:
        broker: To the vhost.
        queue: Whose messages.
        operation: In the journal; its `trash` is set.
        waiting: How many messages are meant, the first ones; no more than the trash keeps are taken.

    Returns:
        How many were taken out.

    Raises:
        GuardRefused: another operation is at the queue, or a message could not be put back. BusError: the trash cannot
            be written, the link was lost, or messages wait and do not come; what was taken until then is in the trash.
    """
    trash = Trash(operation.id)
    operation.trash = str(trash.path) if waiting else None
    mover = open_mover(broker, queue, Mode.EXACT)
    taken = size = 0
    most, lull = min(waiting, TRASH_MESSAGES), Lull(mover)
    try:
        while taken < most and size < TRASH_BYTES:
            if mover.failure is not None:
                raise mover.failure
            found = mover.take(min(_BATCH, most - taken), _IDLE_S, mover.epoch)
            if not found:
                if lull.is_the_end():
                    break
                continue
            lull.over()
            _require_way_back(mover, found, taken)
            trash.keep(found)
            if not _forget(mover, found):
                raise BusError(f"the link was lost: {taken:,} messages of {queue} are in the trash so far")
            taken += len(found)
            size += sum(len(delivery.body) for delivery in found)
    finally:
        mover.close()
        trash.close()
    return taken


def _require_way_back(mover: Mover, deliveries: Sequence[Delivery], taken: int) -> None:
    """Refuse to take a message that could not be sent again. Raises GuardRefused."""
    for delivery in deliveries:
        try:
            mover.require_fits(header_of(delivery))
        except Unencodable as error:
            which = delivery.properties.message_id or identity(delivery).hex()[:12]
            raise GuardRefused(
                f"message {which} of {mover.queue} could not be put back: {error}; it stays, and all behind it",
                hint=f"{taken:,} messages before it are in the trash" if taken else "nothing was taken",
            ) from None


def _forget(mover: Mover, deliveries: Sequence[Delivery]) -> bool:
    """Ack deliveries in a transaction; whether that is known to have happened."""
    batch = mover.send([], [], [each.delivery_tag for each in deliveries], deliveries[0].epoch)
    sent = batch.wait(_DEADLINE_S)
    return sent is not None and sent.outcome is Outcome.CONFIRMED


def definition_of(management: ManagementClient, vhost: str, queue: str) -> dict[str, Any]:
    """All it takes to declare a queue again, with its bindings. Raises NotFound, ApiError."""
    info = management.queue(vhost, queue)
    bindings = [each for each in management.queue_bindings(vhost, queue) if each.source]
    arguments = dict(info.arguments or {})
    arguments.setdefault("x-queue-type", info.type or "classic")
    return {
        "durable": info.durable is not False,
        "auto_delete": bool(info.auto_delete),
        "arguments": arguments,
        "bindings": [
            {"source": each.source, "routing_key": each.routing_key, "arguments": each.arguments or {}}
            for each in bindings
        ],
    }


def declare_again(broker: MessageBroker, queue: str, definition: dict[str, Any]) -> None:
    """Declare a queue as it was; a binding whose exchange is gone is left out."""
    spec = QueueSpec(
        queue=queue,
        durable=definition["durable"],
        exclusive=False,
        auto_delete=definition["auto_delete"],
        arguments=definition["arguments"],
    )
    broker.ensure([spec])
    for binding in definition["bindings"]:
        with suppress(NotFound):
            broker.bind_queue(queue, binding["source"], binding["routing_key"], binding["arguments"])
