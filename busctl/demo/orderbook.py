"""A limit order book with price-time priority. Pure: no clock, no I/O, whole numbers only (ticks and lots)."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Side = Literal["buy", "sell"]


@dataclass(slots=True)
class Order:
    """One order; `remaining` shrinks as it fills."""

    order_id: str
    user_id: int
    side: Side
    price: int
    """The limit in ticks; of a market order the worst price accepted."""
    quantity: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Fill:
    """Two orders met at the price of the one that waited."""

    incoming: Order
    resting: Order
    price: int
    quantity: int

    @property
    def buyer(self) -> Order:
        """Whichever of the two buys."""
        return self.incoming if self.incoming.side == "buy" else self.resting

    @property
    def seller(self) -> Order:
        """Whichever of the two sells."""
        return self.resting if self.incoming.side == "buy" else self.incoming


@dataclass(slots=True)
class _Half:
    """The orders of one side: a queue by arrival for every price, prices in rising order."""

    levels: dict[int, dict[str, Order]] = field(default_factory=dict)
    prices: list[int] = field(default_factory=list)

    def add(self, order: Order) -> None:
        if order.price not in self.levels:
            self.levels[order.price] = {}
            bisect.insort(self.prices, order.price)
        self.levels[order.price][order.order_id] = order

    def remove(self, order: Order) -> None:
        level = self.levels[order.price]
        del level[order.order_id]
        if not level:
            del self.levels[order.price]
            del self.prices[bisect.bisect_left(self.prices, order.price)]


class OrderBook:
    """The waiting orders of one symbol; an incoming order meets the best price first, at a price the oldest first."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.orders: dict[str, Order] = {}
        """Every waiting order by id, oldest first."""
        self._bids = _Half()
        self._asks = _Half()

    def __len__(self) -> int:
        return len(self.orders)

    @property
    def best_bid(self) -> int | None:
        """The highest price somebody pays."""
        return self._bids.prices[-1] if self._bids.prices else None

    @property
    def best_ask(self) -> int | None:
        """The lowest price somebody takes."""
        return self._asks.prices[0] if self._asks.prices else None

    def submit(self, order: Order, *, rest: bool = True) -> list[Fill]:
        """Match an order; what is left waits in the book, or with `rest=False` (a market order) does not.

        Returns:
            The fills in the order they happened.

        Raises:
            ValueError: the id is already in the book, or price or quantity is not positive.
        """
        if order.order_id in self.orders:
            raise ValueError(f"order {order.order_id} is already in the book")
        if order.price <= 0 or order.remaining <= 0:
            raise ValueError("price and quantity must be positive")
        fills = []
        while order.remaining and (resting := self._counterpart(order)) is not None:
            quantity = min(order.remaining, resting.remaining)
            order.remaining -= quantity
            resting.remaining -= quantity
            fills.append(Fill(order, resting, resting.price, quantity))
            if not resting.remaining:
                self._forget(resting)
        if order.remaining and rest:
            self._half(order.side).add(order)
            self.orders[order.order_id] = order
        return fills

    def cancel(self, order_id: str) -> Order | None:
        """Take a waiting order out; None when it does not wait here."""
        order = self.orders.get(order_id)
        if order is not None:
            self._forget(order)
        return order

    def depth(self, side: Side, levels: int) -> list[tuple[int, int]]:
        """List price and waiting quantity of the best levels, best first."""
        half = self._half(side)
        prices: Iterator[int] = iter(half.prices) if side == "sell" else reversed(half.prices)
        return [
            (price, sum(order.remaining for order in half.levels[price].values()))
            for price, _ in zip(prices, range(levels), strict=False)
        ]

    def queue(self, side: Side, price: int) -> list[Order]:
        """List the orders that wait at a price, the next to fill first."""
        return list(self._half(side).levels.get(price, {}).values())

    def _half(self, side: Side) -> _Half:
        return self._bids if side == "buy" else self._asks

    def _counterpart(self, order: Order) -> Order | None:
        """Find who is next on the other side, if the price is good enough."""
        best = self.best_ask if order.side == "buy" else self.best_bid
        if best is None or (best > order.price if order.side == "buy" else best < order.price):
            return None
        other = self._asks if order.side == "buy" else self._bids
        return next(iter(other.levels[best].values()))

    def _forget(self, order: Order) -> None:
        self._half(order.side).remove(order)
        del self.orders[order.order_id]
