"""TES, the trade execution service: checks what traders ask for, has OBS do it, and answers the traders."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from busctl.demo.accounts import Accounts
from busctl.demo.flow import USERS
from busctl.demo.service import Service, run_service
from busctl.demo.topology import ACCOUNT_STATEMENTS, OBS_REQUESTS, OBS_RESPONSES, TES_FILLS, TES_REQUESTS
from busctl.demo.venue import REFUSALS, Refused, Unavailable
from busctl_lib.consumers import MessageConsumer
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import InvalidMessage
from busctl_lib.rpc import ERROR_HEADER, ERROR_TEXT_HEADER
from busctl_lib.schemas import SCHEMAS, validate

_OBS_TIMEOUT_S = 3.0
_STATEMENT_EVERY_S = 3.0
_WORKERS = 32
"""Each waits for the book at one order; so many may be under way at once."""
ORDER_VALUE_LIMIT = 250_000
POSITION_LIMIT = 25_000

Answer = Callable[[dict[str, Any]], Any]


class ExecutionService(Service):
    """Stands between traders and the book. Asks OBS over `obs_requests` and finds the answers in `obs_responses`."""

    name = "tes"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._accounts = Accounts()
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._run = f"{int(time.time()):x}"
        """Makes ids that an earlier run of this service did not give away."""
        self._replies: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Serve until `stopping` is set."""
        replies = self.broker.subscribe(OBS_RESPONSES, self._replies.put, prefetch=200)
        correlator = threading.Thread(target=self._correlate, args=(replies.ack,), name="correlator", daemon=True)
        correlator.start()
        fills = MessageConsumer(self.broker, prefetch=100)
        fills.register_handler("trade", self._book)
        fills.start_consuming(TES_FILLS, background=True)
        requests = MessageConsumer(self.broker, prefetch=2 * _WORKERS, workers=_WORKERS)
        answers: dict[str, Answer] = {
            "place_order": self._place,
            "cancel_order": lambda ask: self._ask({**ask, "action": "withdraw_order"}),
            "get_position": lambda ask: self._accounts.reply(ask["user_id"], ask.get("symbol")),
        }
        for action, answer in answers.items():
            requests.register_handler(action, self._handler(action, answer))
        requests.start_consuming(TES_REQUESTS, background=True)
        self._tell_accounts()
        requests.stop()
        fills.stop()
        replies.cancel()
        self._replies.put(None)
        correlator.join(2)

    def _tell_accounts(self) -> None:
        """Send one user's account after the other to the desk, for its eyes only."""
        keys = self.keys()
        for user in itertools.cycle(USERS):
            if self.stopping.wait(_STATEMENT_EVERY_S):
                return
            with self._lock:
                statement = {"action": "account_statement", **self._accounts.reply(user)}
            self.send(ACCOUNT_STATEMENTS, statement, compress="zstd", keys=keys)

    def _handler(self, action: str, answer: Answer) -> Callable[[dict[str, Any], Properties], Any]:
        def handle(message: dict[str, Any], properties: Properties) -> Any:
            try:
                validate(message, SCHEMAS[action])
                return answer(message)
            except (InvalidMessage, Refused) as error:
                if isinstance(error, InvalidMessage):  # what OBS refused it has buried itself
                    self.bury(TES_REQUESTS, message, properties, error)
                if properties.reply_to:
                    raise
                return None

        return handle

    def _place(self, order: dict[str, Any]) -> Any:
        order_id = f"{self._run}-{next(self._numbers)}"
        reason = self._objection(order)
        if reason is not None:
            known = {name: order[name] for name in ("symbol", "side", "quantity", "price")}
            return {"order_id": order_id, "status": "rejected", **known, "filled": 0, "reason": reason}
        return self._ask({**order, "action": "submit_order", "order_id": order_id})

    def _objection(self, order: dict[str, Any]) -> str | None:
        """Say what speaks against a valid order, if anything does."""
        value = order["quantity"] * order["price"]
        if value > ORDER_VALUE_LIMIT:
            return f"order value {value:,.2f} is above the limit of {ORDER_VALUE_LIMIT:,}"
        with self._lock:
            held = self._accounts.held(order["user_id"], order["symbol"])
        after = held + (order["quantity"] if order["side"] == "buy" else -order["quantity"])
        if abs(after) > POSITION_LIMIT and abs(after) > abs(held):
            return f"position in {order['symbol']} would be {after:,.0f}, the limit is {POSITION_LIMIT:,}"
        return None

    def _ask(self, message: dict[str, Any]) -> Any:
        """Have OBS do something.

        Raises:
            Refused: it does not, or does not answer (Unavailable).
        """
        correlation_id = f"tes-{self._run}-{next(self._numbers)}"
        answer: Future[Any] = Future()
        self._asked[correlation_id] = answer
        try:
            self.send(
                OBS_REQUESTS,
                message,
                reply_to=OBS_RESPONSES,
                correlation_id=correlation_id,
                expiration=str(int(_OBS_TIMEOUT_S * 1000)),
            )
            return answer.result(_OBS_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable(f"the order book did not answer within {_OBS_TIMEOUT_S:g} s") from None
        finally:
            self._asked.pop(correlation_id, None)

    def _correlate(self, ack: Callable[[Delivery], object]) -> None:
        """Bring each reply to the one who waits for it; late ones are dropped."""
        while (reply := self._replies.get()) is not None:
            waiting = self._asked.pop(reply.properties.correlation_id or "", None)
            if waiting is not None:
                kind = reply.headers.get(ERROR_HEADER)
                if kind is None:
                    waiting.set_result(json.loads(reply.body))
                else:
                    waiting.set_exception(REFUSALS.get(kind, Refused)(str(reply.headers.get(ERROR_TEXT_HEADER, ""))))
            ack(reply)

    def _book(self, trade: dict[str, Any], _: Properties) -> None:
        with self._lock:
            self._accounts.trade(trade)


if __name__ == "__main__":
    run_service(ExecutionService)
