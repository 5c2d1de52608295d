"""The folders that rabbitmq-dump-queue writes: a file a message, and with `-full` its properties beside it.

Source: https://github.com/dubek/rabbitmq-dump-queue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import InvalidMessage

_BESIDE = "-headers+properties.json"
_UNSET = {"delivery_mode": 0, "priority": 0}
"""What it writes for a property that is not there."""


def bodies_in(folder: Path) -> list[Path]:
    """The files of its messages, in their order."""
    return sorted(path for path in folder.glob("msg-*") if not path.name.endswith(".json") and path.is_file())


def read_folder(folder: Path) -> Iterator[Delivery]:
    """Yield the messages of a folder.

    Raises:
        InvalidMessage: it does not say where they were published.
    """
    for path in bodies_in(folder):
        try:
            beside = path.with_name(path.name + _BESIDE)
            found = msgspec.json.decode(beside.read_bytes(), type=dict[str, Any]) if beside.exists() else {}
            values = {name: value for name, value in found.get("properties", {}).items() if _UNSET.get(name) != value}
            exchange, key = values.pop("exchange", ""), values.pop("routing_key", None)
            if key is None:
                raise _refused(
                    path,
                    "a message of rabbitmq-dump-queue that does not say its exchange and key",
                    hint="dump it anew with -full, or use `busctl record`",
                )
            stamp = values.pop("timestamp", None)
            properties = msgspec.convert({**values, "headers": found.get("headers") or None}, Properties)
            properties.timestamp = _moment(stamp)
            body = path.read_bytes()
            yield Delivery(
                exchange=exchange,
                routing_key=key,
                properties=properties,
                body=body,
                queue=None,
                received_at=0.0,
                via="dump",
            )
        except (msgspec.MsgspecError, ValueError, TypeError, AttributeError) as error:
            raise _refused(path, f"none of rabbitmq-dump-queue's messages: {error!r:.120}") from None


def _moment(text: str | None) -> int | None:
    """A time as Go writes it: `2026-01-02 03:04:05 +0000 UTC`."""
    with contextlib.suppress(ValueError, TypeError):
        return int(datetime.strptime(" ".join((text or "").split()[:3]), "%Y-%m-%d %H:%M:%S %z").timestamp())
    return None


def _refused(path: Path, text: str, hint: str | None = None) -> InvalidMessage:
    return InvalidMessage(f"{path.name} is {text}", hint=hint, field="file", expected="a message", found=path.name)
