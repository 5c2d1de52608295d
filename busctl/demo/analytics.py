"""Analytics: averages over the trades, and a risk monitor on the quotes. The slow consumers of the bus.

Now and then its database is busy: `trade_events` backs up and recovers. The risk monitor hangs at times: quotes older
than their time to live expire meanwhile. Some trades fail for want of reference data: they are tried again
after some seconds, and after the third time given up.
"""

from __future__ import annotations

import random
import time
import zlib
from typing import Any

from busctl.demo.service import Service, run_service
from busctl.demo.topology import RISK_QUOTES, TRADE_EVENTS
from busctl_lib.consumers import MessageConsumer
from busctl_lib.envelope import Properties
from busctl_lib.retry import RetryPolicy, attempts_of

_RETRY = RetryPolicy(max_attempts=3, first_delay_s=4.0)
_BUSY_EVERY_S, _BUSY_FOR_S = 100.0, 24.0
_HANG_EVERY_S, _HANG_FOR_S = 150.0, 9.0


class ReferenceDataMissing(Exception):
    """What a trade needs to be counted is not there yet."""


class Episodes:
    """When something is out of order: for `length_s`, about every `every_s`.

    Args:
        seed: makes the moments.
    """

    def __init__(self, seed: int, every_s: float, length_s: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._every_s, self._length_s = every_s, length_s
        self._start = time.monotonic() + every_s * self._random.uniform(0.2, 0.5)

    def left_s(self) -> float:
        """Tell for how long it is still out of order; 0 when all is well."""
        now = time.monotonic()
        while now > self._start + self._length_s:
            self._start += self._every_s * self._random.uniform(0.8, 1.2)
        return max(0.0, self._start + self._length_s - now) if now >= self._start else 0.0


class Analytics(Service):
    """Consumes trades and quotes."""

    name = "analytics"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._busy = Episodes(self.seed, _BUSY_EVERY_S, _BUSY_FOR_S)
        self._hangs = Episodes(self.seed + 1, _HANG_EVERY_S, _HANG_FOR_S)
        self._value: dict[str, float] = {}
        self._quantity: dict[str, float] = {}
        self._spread: dict[str, float] = {}

    def run(self) -> None:
        """Consume until `stopping` is set."""
        trades = MessageConsumer(self.broker, prefetch=10, retry=_RETRY)
        trades.register_handler("trade", self._trade)
        trades.start_consuming(TRADE_EVENTS, background=True)
        quotes = MessageConsumer(self.broker, prefetch=5)
        quotes.register_handler("quote", self._quote)
        quotes.start_consuming(RISK_QUOTES, background=True)
        self.stopping.wait()
        trades.stop()
        quotes.stop()

    def average_price(self, symbol: str) -> float | None:
        """Tell the volume-weighted average price of a symbol."""
        return self._value[symbol] / self._quantity[symbol] if symbol in self._value else None

    def _trade(self, trade: dict[str, Any], properties: Properties) -> None:
        if self._busy.left_s():
            self.stopping.wait(8.0 / self.rate)  # slower than trades come in, at any rate
        self._count(trade, attempts_of(properties.headers) + 1)

    def _count(self, trade: dict[str, Any], attempt: int) -> None:
        """Add a trade to the averages.

        Raises:
            ReferenceDataMissing: chosen by the trade's id: 1 in 100 misses it at first, a third of those for good.
        """
        chance = zlib.crc32(trade["trade_id"].encode()) % 300
        if chance < 3 and attempt <= (1, 2, _RETRY.max_attempts)[chance]:
            raise ReferenceDataMissing(f"no sector for {trade['symbol']} on {time.strftime('%Y-%m-%d', time.gmtime())}")
        symbol, quantity = trade["symbol"], trade["quantity"]
        self._value[symbol] = self._value.get(symbol, 0.0) + quantity * trade["price"]
        self._quantity[symbol] = self._quantity.get(symbol, 0.0) + quantity

    def _quote(self, quote: dict[str, Any], _: Properties) -> None:
        self.stopping.wait(self._hangs.left_s())
        if quote["bid"] is not None and quote["ask"] is not None:
            self._spread[quote["symbol"]] = quote["ask"] - quote["bid"]


if __name__ == "__main__":
    run_service(Analytics)
