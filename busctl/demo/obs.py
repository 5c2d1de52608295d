"""OBS, the order-book service: `obs_requests` in, replies to whoever asked, trades and quotes out to everyone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from busctl.demo.flow import BASE_PRICES
from busctl.demo.service import Service, run_service
from busctl.demo.topology import MARKET_DATA, OBS_REQUESTS, TRADE_EVENTS
from busctl.demo.venue import Refused, Venue
from busctl_lib.consumers import MessageConsumer
from busctl_lib.envelope import Properties
from busctl_lib.schemas import SCHEMAS, validate

_QUOTES_EVERY_S = 1.0
_SNAPSHOT_EVERY = 5
"""Rounds of quotes from one snapshot to the next."""
_DEPTH = 10
_TRADES = 20

Answer = Callable[[dict[str, Any]], Any]


class OrderBookService(Service):
    """Matches orders one after the other."""

    name = "obs"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._venue = Venue(BASE_PRICES)
        self._lock = threading.Lock()
        self._changed = set(BASE_PRICES)

    def run(self) -> None:
        """Serve until `stopping` is set."""
        consumer = MessageConsumer(self.broker, prefetch=50)
        answers: dict[str, Answer] = {
            "submit_order": self._submit,
            "withdraw_order": self._withdraw,
            "expire_order": self._expire,
            "get_orderbook": lambda ask: self._venue.orderbook(ask["symbol"], ask.get("depth", _DEPTH), time.time()),
            "get_trades": lambda ask: self._venue.trades(ask["symbol"], ask.get("limit", _TRADES)),
            "get_symbols": lambda _: {"symbols": [self._venue.quote(symbol, time.time()) for symbol in BASE_PRICES]},
            "get_order": lambda ask: self._venue.order(ask["order_id"]),
        }
        for action, answer in answers.items():
            consumer.register_handler(action, self._handler(action, answer))
        consumer.start_consuming(OBS_REQUESTS, background=True)
        self._tell_quotes()
        consumer.stop()

    def _handler(self, action: str, answer: Answer) -> Callable[[dict[str, Any], Properties], Any]:
        def handle(message: dict[str, Any], properties: Properties) -> Any:
            validate(message, SCHEMAS[action])
            try:
                with self._lock:
                    return answer(message)
            except Refused as error:
                # An order that execution let through and the book cannot take is a fault somebody has to look at; a
                # question about something that is not there is only answered so.
                if action == "submit_order":
                    self.bury(OBS_REQUESTS, message, properties, error)
                raise

        return handle

    def _submit(self, message: dict[str, Any]) -> Any:
        reply, trades = self._venue.submit(message, time.time())
        self._changed.add(message["symbol"])
        if reply["status"] in ("open", "partial"):
            expiry = {"action": "expire_order", "order_id": message["order_id"]}
            self.send(OBS_REQUESTS, expiry, delay=self._venue.order_life_s)
        for trade in trades:
            self.send(None, trade, exchange=TRADE_EVENTS)
            self.send(None, trade, exchange=MARKET_DATA, routing_key=f"trades.{trade['symbol']}", mandatory=False)
        return reply

    def _withdraw(self, message: dict[str, Any]) -> Any:
        reply = self._venue.withdraw(message)
        self._changed.add(reply["symbol"])
        return reply

    def _expire(self, message: dict[str, Any]) -> None:
        symbol = self._venue.expire(message["order_id"])
        if symbol is not None:
            self._changed.add(symbol)

    def _tell_quotes(self) -> None:
        """Tell the top of every book that changed, once a second, and now and then all there is, compressed."""
        for second in itertools.count(1):
            if self.stopping.wait(_QUOTES_EVERY_S):
                return
            with self._lock:
                quotes = [self._venue.quote(symbol, time.time()) for symbol in sorted(self._changed)]
                self._changed.clear()
                snapshot = self._venue.snapshot(time.time()) if second % _SNAPSHOT_EVERY == 0 else None
            if snapshot is not None:
                self.send(None, snapshot, exchange=MARKET_DATA, routing_key="snapshots", compress="zstd")
            for quote in quotes:
                self.send(None, quote, exchange=MARKET_DATA, routing_key=f"quotes.{quote['symbol']}", mandatory=False)


if __name__ == "__main__":
    run_service(OrderBookService)
