"""The message every client carries: a 200-byte JSON order, in durable queues always persistent."""

from __future__ import annotations

import json
from typing import Any

SIZE_BYTES = 200

MESSAGE: dict[str, Any] = {
    "action": "place_order",
    "order_id": 123456789,
    "symbol": "AAPL",
    "side": "sell",
    "quantity": 250.0,
    "price": 187.25,
    "order_type": "limit",
    "timestamp": 1767225600.25,
    "note": "",
}


def _compact(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


MESSAGE["note"] = "." * (SIZE_BYTES - len(_compact(MESSAGE)))

BODY = _compact(MESSAGE)
"""`MESSAGE` as it is on the wire: what clients without an encoder of their own publish."""
