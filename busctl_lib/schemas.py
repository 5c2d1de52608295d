"""The messages of the trading bus as TypedDicts, which action has which, and the RPC methods made of them.

Checking a message against them is `validate`, reading a request from a command line is `coerce`; both name the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from busctl_lib.methods import Method as Method
from busctl_lib.methods import coerce as coerce
from busctl_lib.validation import nearest as nearest
from busctl_lib.validation import validate as validate

Side = Literal["buy", "sell"]
OrderType = Literal["limit", "market"]
OrderStatus = Literal["open", "partial", "filled", "cancelled", "rejected"]
UserId = Annotated[int, Meta(gt=0)]
Symbol = Annotated[str, Meta(min_length=1, max_length=12)]
Quantity = Annotated[float, Meta(gt=0)]
Price = Annotated[float, Meta(gt=0)]
Level = tuple[float, float]
"""Price and quantity."""


# --- Orders: trader -> TES ---------------------------------------------------------------------------------------


class Order(TypedDict):
    """An order as a trader thinks of it; `OrderPublisher` adds the action."""

    user_id: UserId
    symbol: Symbol
    side: Side
    quantity: Quantity
    price: Price
    """The limit; of a market order the worst price accepted."""
    order_type: NotRequired[OrderType]
    timestamp: NotRequired[float]


class OrderMessage(Order):
    """Place an order."""

    action: Literal["place_order"]


class CancelOrder(TypedDict):
    """Take an order out of the book."""

    action: Literal["cancel_order"]
    user_id: UserId
    order_id: str


class GetOrder(TypedDict):
    """Ask for the state of one order."""

    action: Literal["get_order"]
    order_id: str


class GetPosition(TypedDict):
    """Ask what a user holds, of one symbol or of all."""

    action: Literal["get_position"]
    user_id: UserId
    symbol: NotRequired[Symbol]


class OrderReply(TypedDict):
    """What became of an order so far."""

    order_id: str
    status: OrderStatus
    symbol: str
    side: Side
    quantity: float
    filled: float
    price: float
    average_price: NotRequired[float]
    reason: NotRequired[str]
    """Why it was rejected or cancelled."""


class Holding(TypedDict):
    """A position in one symbol; negative is short."""

    symbol: str
    quantity: float
    average_price: float
    realized: float


class PositionReply(TypedDict):
    """Everything a user holds."""

    user_id: int
    positions: list[Holding]


# --- The order book: TES -> OBS, and whoever asks for market data --------------------------------------------------


class SubmitOrder(Order):
    """A checked order on its way into the book."""

    action: Literal["submit_order"]
    order_id: str


class WithdrawOrder(TypedDict):
    """A checked cancel on its way into the book."""

    action: Literal["withdraw_order"]
    user_id: UserId
    order_id: str


class ExpireOrder(TypedDict):
    """Take an order out of the book that waited too long; sent when it was placed, delayed by its life."""

    action: Literal["expire_order"]
    order_id: str


class GetOrderbook(TypedDict):
    """Ask for the bids and asks of a symbol."""

    action: Literal["get_orderbook"]
    symbol: Symbol
    depth: NotRequired[Annotated[int, Meta(ge=1, le=100)]]


class GetTrades(TypedDict):
    """Ask for the last trades of a symbol."""

    action: Literal["get_trades"]
    symbol: Symbol
    limit: NotRequired[Annotated[int, Meta(ge=1, le=100)]]


class GetSymbols(TypedDict):
    """Ask which symbols trade, and at what price."""

    action: Literal["get_symbols"]


class OrderbookReply(TypedDict):
    """An order book: best prices first."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    last: float | None
    sequence: int
    timestamp: float


class TradesReply(TypedDict):
    """The last trades of a symbol, newest first."""

    symbol: str
    trades: list[TradeMessage]


class SymbolsReply(TypedDict):
    """The top of every book."""

    symbols: list[QuoteMessage]


# --- Events: OBS -> everyone -----------------------------------------------------------------------------------------


class TradeMessage(TypedDict):
    """Two orders met."""

    action: Literal["trade"]
    trade_id: str
    symbol: Symbol
    side: Side
    """Of the order that came last."""
    quantity: Quantity
    price: Price
    buy_order_id: str
    sell_order_id: str
    buyer_id: UserId
    seller_id: UserId
    timestamp: float


class QuoteMessage(TypedDict):
    """The top of a book; None where a side is empty."""

    action: Literal["quote"]
    symbol: Symbol
    bid: float | None
    bid_quantity: float
    ask: float | None
    ask_quantity: float
    last: float | None
    volume: float
    timestamp: float


SCHEMAS: dict[str, type] = {
    "place_order": OrderMessage,
    "cancel_order": CancelOrder,
    "get_order": GetOrder,
    "get_position": GetPosition,
    "submit_order": SubmitOrder,
    "withdraw_order": WithdrawOrder,
    "expire_order": ExpireOrder,
    "get_orderbook": GetOrderbook,
    "get_trades": GetTrades,
    "get_symbols": GetSymbols,
    "trade": TradeMessage,
    "quote": QuoteMessage,
}
"""action -> the TypedDict of its messages."""


def schema_of(message: Mapping[str, Any]) -> type | None:
    """Find the schema of a message by its `action`; None when there is none."""
    action = message.get("action")
    return SCHEMAS.get(action) if isinstance(action, str) else None


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("get_orderbook", "obs_requests", GetOrderbook, OrderbookReply, "bids and asks of a symbol"),
        Method("get_trades", "obs_requests", GetTrades, TradesReply, "the last trades of a symbol"),
        Method("get_symbols", "obs_requests", GetSymbols, SymbolsReply, "the symbols and the top of their books"),
        Method("place_order", "tes_requests", OrderMessage, OrderReply, "place an order"),
        Method("cancel_order", "tes_requests", CancelOrder, OrderReply, "take an order out of the book"),
        Method("get_order", "obs_requests", GetOrder, OrderReply, "the state of an order"),
        Method("get_position", "tes_requests", GetPosition, PositionReply, "what a user holds"),
    )
}
"""name -> the method; where a name is here, `busctl rpc NAME` works."""
