"""What the order-book service knows and decides: messages in, replies and trades out. Pure: no broker, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from busctl.demo.orderbook import Fill, Order, OrderBook
from busctl_lib.schemas import OrderbookReply, OrderReply, OrderStatus, QuoteMessage, TradeMessage, TradesReply

TICKS_PER_UNIT = 100
KEPT_TRADES = 200
KEPT_ORDERS = 5_000
_ALL_LEVELS = 1_000


class Refused(Exception):
    """A request the bus understands and does not do; the class name travels as the error's type."""


class UnknownSymbol(Refused):
    """Nobody trades that."""


class InvalidTick(Refused):
    """The price is not a multiple of the tick."""


class InvalidLot(Refused):
    """The quantity is not a whole number."""


class UnknownOrder(Refused):
    """No such order, or it is somebody else's."""


class Unavailable(Refused):
    """The service behind does not answer."""


REFUSALS = {kind.__name__: kind for kind in (UnknownSymbol, InvalidTick, InvalidLot, UnknownOrder, Unavailable)}


class _Ticket:
    """An order and its history, also after it left the book."""

    __slots__ = ("order", "reason", "symbol", "value")

    def __init__(self, symbol: str, order: Order) -> None:
        self.symbol = symbol
        self.order = order
        self.value = 0
        """Sum of price times quantity of its fills, in ticks."""
        self.reason: str | None = None

    @property
    def filled(self) -> int:
        return self.order.quantity - self.order.remaining

    @property
    def status(self) -> OrderStatus:
        if not self.order.remaining:
            return "filled"
        if self.reason is not None:
            return "cancelled"
        return "partial" if self.filled else "open"

    def reply(self) -> OrderReply:
        reply: OrderReply = {
            "order_id": self.order.order_id,
            "status": self.status,
            "symbol": self.symbol,
            "side": self.order.side,
            "quantity": self.order.quantity,
            "filled": self.filled,
            "price": self.order.price / TICKS_PER_UNIT,
        }
        if self.filled:
            reply["average_price"] = round(self.value / self.filled / TICKS_PER_UNIT, 4)
        if self.reason is not None:
            reply["reason"] = self.reason
        return reply


class Venue:
    """The books of every symbol, the tickets of every order, the tape of every trade.

    Args:
        symbols: what trades here, with the price each one opens at.
        order_life_s: how long an order may wait.
    """

    def __init__(self, symbols: dict[str, float], order_life_s: float = 120.0) -> None:
        self.books = {symbol: OrderBook(symbol) for symbol in symbols}
        self.sequence = 0
        self.order_life_s = order_life_s
        self._last = dict(symbols)
        self._volume = dict.fromkeys(symbols, 0)
        self._tape: dict[str, deque[TradeMessage]] = {symbol: deque(maxlen=KEPT_TRADES) for symbol in symbols}
        self._tickets: dict[str, _Ticket] = {}

    def submit(self, message: dict[str, Any], now: float) -> tuple[OrderReply, list[TradeMessage]]:
        """Match an order; what is left of a limit order waits. The same order id again changes nothing.

        Raises:
            Refused: unknown symbol, price off the tick, part of a lot.
        """
        book = self._book(message["symbol"])
        known = self._tickets.get(message["order_id"])
        if known is not None:  # delivered once more after a crash or a lost ack
            return known.reply(), []
        order = Order(
            order_id=message["order_id"],
            user_id=message["user_id"],
            side=message["side"],
            price=_ticks(message["price"]),
            quantity=_lots(message["quantity"]),
            remaining=_lots(message["quantity"]),
        )
        ticket = _Ticket(book.symbol, order)
        market = message.get("order_type") == "market"
        fills = book.submit(order, rest=not market)
        if market and order.remaining:
            ticket.reason = "nobody sells at that price" if order.side == "buy" else "nobody buys at that price"
        self._keep(ticket)
        trades = [self._trade(book.symbol, fill, now) for fill in fills]
        return ticket.reply(), trades

    def withdraw(self, message: dict[str, Any]) -> OrderReply:
        """Take an order out of its book; one that is done already is answered as it is.

        Raises:
            UnknownOrder: there is none of that id and user.
        """
        ticket = self._tickets.get(message["order_id"])
        if ticket is None or ticket.order.user_id != message["user_id"]:
            raise UnknownOrder(f"user {message['user_id']} has no order {message['order_id']}")
        if self.books[ticket.symbol].cancel(ticket.order.order_id) is not None:
            ticket.reason = "cancelled by its owner"
            self.sequence += 1
        return ticket.reply()

    def order(self, order_id: str) -> OrderReply:
        """Tell the state of an order.

        Raises:
            UnknownOrder: there is none of that id.
        """
        if order_id not in self._tickets:
            raise UnknownOrder(f"there is no order {order_id}")
        return self._tickets[order_id].reply()

    def expire(self, order_id: str) -> str | None:
        """Cancel an order that waited too long; returns the symbol whose book changed, if one did."""
        ticket = self._tickets.get(order_id)
        if ticket is None or self.books[ticket.symbol].cancel(order_id) is None:
            return None
        ticket.reason = f"expired after {self.order_life_s:g} s"
        self.sequence += 1
        return ticket.symbol

    def snapshot(self, now: float) -> dict[str, Any]:
        """Make a picture of all books at once, to their bottom."""
        return {"action": "snapshot", "books": [self.orderbook(symbol, _ALL_LEVELS, now) for symbol in self.books]}

    def orderbook(self, symbol: str, depth: int, now: float) -> OrderbookReply:
        """List the best prices of a symbol."""
        book = self._book(symbol)
        return {
            "symbol": symbol,
            "bids": _levels(book.depth("buy", depth)),
            "asks": _levels(book.depth("sell", depth)),
            "last": self._last[symbol],
            "sequence": self.sequence,
            "timestamp": now,
        }

    def trades(self, symbol: str, limit: int) -> TradesReply:
        """List the last trades of a symbol, newest first."""
        tape = self._tape[self._book(symbol).symbol]
        return {"symbol": symbol, "trades": [tape[-index] for index in range(1, min(limit, len(tape)) + 1)]}

    def quote(self, symbol: str, now: float) -> QuoteMessage:
        """Tell the top of a book."""
        book = self._book(symbol)
        bid, ask = book.depth("buy", 1), book.depth("sell", 1)
        return {
            "action": "quote",
            "symbol": symbol,
            "bid": bid[0][0] / TICKS_PER_UNIT if bid else None,
            "bid_quantity": bid[0][1] if bid else 0,
            "ask": ask[0][0] / TICKS_PER_UNIT if ask else None,
            "ask_quantity": ask[0][1] if ask else 0,
            "last": self._last[symbol],
            "volume": self._volume[symbol],
            "timestamp": now,
        }

    def _book(self, symbol: str) -> OrderBook:
        book = self.books.get(symbol)
        if book is None:
            raise UnknownSymbol(f"nobody trades {symbol}; known are {', '.join(self.books)}")
        return book

    def _trade(self, symbol: str, fill: Fill, now: float) -> TradeMessage:
        for order in (fill.incoming, fill.resting):
            ticket = self._tickets.get(order.order_id)
            if ticket is not None:
                ticket.value += fill.price * fill.quantity
        self._last[symbol] = fill.price / TICKS_PER_UNIT
        self._volume[symbol] += fill.quantity
        self.sequence += 1
        trade: TradeMessage = {
            "action": "trade",
            "trade_id": f"{fill.incoming.order_id}-{self.sequence}",
            "symbol": symbol,
            "side": fill.incoming.side,
            "quantity": fill.quantity,
            "price": fill.price / TICKS_PER_UNIT,
            "buy_order_id": fill.buyer.order_id,
            "sell_order_id": fill.seller.order_id,
            "buyer_id": fill.buyer.user_id,
            "seller_id": fill.seller.user_id,
            "timestamp": now,
        }
        self._tape[symbol].append(trade)
        return trade

    def _keep(self, ticket: _Ticket) -> None:
        """Remember a ticket, and forget the oldest ones that no longer wait."""
        self._tickets[ticket.order.order_id] = ticket
        self.sequence += 1
        while len(self._tickets) > KEPT_ORDERS:
            oldest = next(iter(self._tickets.values()))
            if oldest.order.order_id in self.books[oldest.symbol].orders:
                break
            del self._tickets[oldest.order.order_id]


def _ticks(price: float) -> int:
    ticks = round(price * TICKS_PER_UNIT)
    if ticks < 1 or abs(price * TICKS_PER_UNIT - ticks) > 1e-6 * max(1, ticks):
        raise InvalidTick(f"price {price} is not a multiple of {1 / TICKS_PER_UNIT}")
    return ticks


def _lots(quantity: float) -> int:
    if quantity != int(quantity):
        raise InvalidLot(f"quantity {quantity} is not a whole number")
    return int(quantity)


def _levels(depth: Iterable[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(price / TICKS_PER_UNIT, quantity) for price, quantity in depth]
