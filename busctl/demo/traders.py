"""The traders: a dozen users who send orders to TES and find the answers in `tes_responses`."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from busctl.demo.flow import OPENING, Intent, OrderFlow, pulse
from busctl.demo.service import Service, run_service
from busctl.demo.topology import TES_REQUESTS, TES_RESPONSES
from busctl_lib.envelope import Delivery
from busctl_lib.rpc import ERROR_HEADER

_OPENING_RATE = 300.0
_EXPIRATION_MS = "5000"
"""An order that execution did not take by then is no longer meant."""
_REMEMBERED = 500


class Traders(Service):
    """Sends the order flow at its pace. What it sends depends on the seed alone, but for the order a cancel means."""

    name = "traders"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._flow = OrderFlow(self.seed)
        self._replies: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._users: dict[str, int] = {}
        """Correlation id -> who sent it."""
        self._open: dict[str, int] = {}
        """Order id -> whose it is; oldest first."""
        self._numbers = itertools.count(1)
        self._run = f"{int(time.time()):x}"

    def run(self) -> None:
        """Trade until `stopping` is set."""
        replies = self.broker.subscribe(TES_RESPONSES, self._replies.put, prefetch=200)
        reader = threading.Thread(target=self._read, args=(replies.ack,), name="replies", daemon=True)
        reader.start()
        started = due = time.monotonic()
        for number in itertools.count():
            rate = _OPENING_RATE if number < OPENING else self.rate * pulse(time.monotonic() - started)
            # Behind after a broker that was away: go on from now, not with all that was missed.
            due = max(due + 1 / max(rate, 0.01), time.monotonic() - 1.0)
            if self.stopping.wait(max(0.0, due - time.monotonic())):
                break
            self._act(self._flow.next())
        replies.cancel()
        self._replies.put(None)
        reader.join(2)

    def _act(self, intent: Intent) -> None:
        if intent.kind == "garbage":
            self.send_raw(TES_REQUESTS, intent.body, app_id="traders")
            return
        message = dict(intent.message)
        if intent.kind == "cancel":
            order_id = self._pick(message["user_id"], intent.pick)
            if order_id is None:
                return
            message = {"action": "cancel_order", **message, "order_id": order_id}
        else:
            message["timestamp"] = round(time.time(), 3)
        correlation_id = f"trader-{self._run}-{next(self._numbers)}"
        self._users[correlation_id] = message["user_id"]
        while len(self._users) > _REMEMBERED:
            self._users.pop(next(iter(self._users)), None)
        self.send(
            TES_REQUESTS,
            message,
            reply_to=TES_RESPONSES,
            correlation_id=correlation_id,
            expiration=_EXPIRATION_MS,
            app_id="traders",
        )

    def _pick(self, user_id: int, share: float) -> str | None:
        own = [order_id for order_id, user in list(self._open.items()) if user == user_id]
        return own[int(share * len(own))] if own else None

    def _read(self, ack: Callable[[Delivery], object]) -> None:
        """Keep track of which orders still wait."""
        while (reply := self._replies.get()) is not None:
            user = self._users.pop(reply.properties.correlation_id or "", None)
            if user is not None and ERROR_HEADER not in reply.headers:
                self._note(json.loads(reply.body), user)
            ack(reply)

    def _note(self, order: dict[str, Any], user: int) -> None:
        order_id, waits = order["order_id"], order["status"] in ("open", "partial")
        if waits:
            self._open[order_id] = user
        else:
            self._open.pop(order_id, None)
        while len(self._open) > _REMEMBERED:
            self._open.pop(next(iter(self._open)), None)


if __name__ == "__main__":
    run_service(Traders)
