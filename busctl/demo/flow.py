"""What the traders do, one intent after the other: a pure function of the seed, whatever the clock and the bus do."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

BASE_PRICES = {"AAPL": 150.0, "MSFT": 410.0, "GOOG": 175.0, "AMZN": 185.0, "NVDA": 120.0, "TSLA": 240.0}
"""The symbols that trade and the price each one wanders around."""
_WEIGHTS = (5, 3, 2, 2, 4, 3)
USERS = range(1, 13)
_MAKERS = (1, 2, 3)
UNKNOWN_SYMBOLS = ("APPL", "GOOGL", "XYZ", "TSLAQ")

OPENING = 240
"""Intents at the start that only fill the books, so that there is a market when trading begins."""
_MAKER_SHARE = 0.6
_STEP = 0.0003
_PULL = 0.0002
"""How far a price goes at a step, and how strongly it is drawn back, as shares of it."""
_BASIS_POINT = 0.0001
_FAULT_SHARE = 0.006
_EPISODE_EVERY = 3000
"""Intents between two episodes: somebody rolls out a client with a bug, and rolls it back."""
_EPISODE_LENGTH = 150
_EPISODE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a trader does."""

    kind: Literal["order", "cancel", "garbage"]
    message: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    """What garbage looks like on the wire."""
    pick: float = 0.0
    """Which of the open orders a cancel means, as a share of their number."""
    fault: str | None = None
    """What is wrong with it, if anything."""


class PriceWalk:
    """The fair price of one symbol: a random walk that is drawn back to its base, so that it lasts all day."""

    def __init__(self, base: float) -> None:
        self._base = base
        self._drift = 0.0

    @property
    def price(self) -> float:
        """The price now."""
        return self._base * math.exp(self._drift)

    def step(self, random_: random.Random) -> float:
        """Go one step and return the price there."""
        self._drift += -_PULL * self._drift + random_.gauss(0, _STEP)
        return self.price


class OrderFlow:
    """An endless flow of intents; two flows of one seed are equal."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._walks = {symbol: PriceWalk(base) for symbol, base in BASE_PRICES.items()}
        self._count = 0
        self._episode: str | None = None

    def __iter__(self) -> Iterator[Intent]:
        while True:
            yield self.next()

    def next(self) -> Intent:
        """Draw the next intent."""
        self._count += 1
        if self._count <= OPENING:
            symbol = list(BASE_PRICES)[self._count % len(BASE_PRICES)]
            return Intent("order", self._order(maker=True, symbol=symbol))
        draw = self._random.random()
        fault = self._fault()
        if fault == "garbage":
            return self._garbage()
        if fault is not None:
            return Intent("order", _FAULTS[fault](self._random, self._order(maker=False)), fault=fault)
        if draw < 0.12:
            return Intent("cancel", {"user_id": self._random.choice(_MAKERS)}, pick=self._random.random())
        return Intent("order", self._order(maker=draw < 0.12 + _MAKER_SHARE))

    def _fault(self) -> str | None:
        place = self._count % _EPISODE_EVERY
        if place == 0:
            self._episode = self._random.choice(sorted(_FAULTS))
        bad = self._random.random()
        if self._episode and place < _EPISODE_LENGTH:
            return self._episode if bad < _EPISODE_SHARE else None
        return self._random.choice([*sorted(_FAULTS), "garbage"]) if bad < _FAULT_SHARE else None

    def _order(self, *, maker: bool, symbol: str | None = None) -> dict[str, Any]:
        """Draw a valid order: a maker's waits around the fair price, a taker's crosses the spread."""
        draw = self._random
        symbol = symbol or draw.choices(list(BASE_PRICES), _WEIGHTS)[0]
        fair = self._walks[symbol].step(draw)
        side = draw.choice(("buy", "sell"))
        away = -1 if side == "buy" else 1
        if maker:
            price, kind = fair * (1 + away * _BASIS_POINT * (1 + draw.expovariate(0.15))), "limit"
            user = draw.choice(_MAKERS)
        else:
            kind = "market" if draw.random() < 0.3 else "limit"
            price = (
                fair * (1 - away * 0.01) if kind == "market" else fair * (1 - away * _BASIS_POINT * draw.uniform(0, 8))
            )
            user = draw.choice(USERS)
        return {
            "action": "place_order",
            "user_id": user,
            "symbol": symbol,
            "side": side,
            "quantity": 10 * max(1, round(draw.lognormvariate(2.3 if maker else 1.8, 0.8))),
            "price": round(price, 2),
            "order_type": kind,
        }

    def _garbage(self) -> Intent:
        """Cut an order off in the middle, as a client that crashed while writing."""
        whole = json.dumps(self._order(maker=False)).encode()
        return Intent("garbage", body=whole[: self._random.randrange(10, len(whole) - 1)], fault="garbage")


Spoil = Callable[[random.Random, dict[str, Any]], dict[str, Any]]


def _misspelt(_: random.Random, order: dict[str, Any]) -> dict[str, Any]:
    order["qty"] = order.pop("quantity")
    return order


def _without_price(_: random.Random, order: dict[str, Any]) -> dict[str, Any]:
    del order["price"]
    return order


_FAULTS: dict[str, Spoil] = {
    "quantity": lambda draw, order: order | {"quantity": -order["quantity"] if draw.random() < 0.7 else 0},
    "side": lambda draw, order: order | {"side": draw.choice(("hold", "BUY", "short"))},
    "missing": _without_price,
    "misspelt": _misspelt,
    "text": lambda _, order: order | {"price": str(order["price"])},
    "symbol": lambda draw, order: order | {"symbol": draw.choice(UNKNOWN_SYMBOLS)},
    "tick": lambda draw, order: order | {"price": round(order["price"] + 0.001 * draw.randint(1, 9), 3)},
}


def pulse(seconds: float) -> float:
    """Say how busy the market is at a time: the share of the average rate, between 0.4 and 3.

    Args:
        seconds: since the start.
    """
    wave = 1 + 0.45 * math.sin(2 * math.pi * seconds / 75) + 0.15 * math.sin(2 * math.pi * seconds / 17)
    burst = 2.0 if seconds % 97 > 90 else 1.0
    return wave * burst
