"""Who holds what, from the trades. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from busctl_lib.schemas import Holding, PositionReply


@dataclass(slots=True)
class _Position:
    quantity: float = 0
    average_price: float = 0.0
    realized: float = 0.0

    def apply(self, quantity: float, price: float) -> None:
        """Buy (positive) or sell (negative); what closes a position realizes its gain."""
        closing = min(abs(quantity), abs(self.quantity)) if quantity * self.quantity < 0 else 0
        if closing:
            self.realized += closing * (price - self.average_price) * (1 if self.quantity > 0 else -1)
        opening = abs(quantity) - closing
        if opening:
            held = abs(self.quantity) - closing
            self.average_price = (held * self.average_price + opening * price) / (held + opening)
        self.quantity += quantity
        if not self.quantity:
            self.average_price = 0.0


class Accounts:
    """The positions of every user."""

    def __init__(self) -> None:
        self._positions: dict[int, dict[str, _Position]] = {}

    def trade(self, trade: dict[str, Any]) -> None:
        """Book a trade on both sides."""
        for user, sign in ((trade["buyer_id"], 1), (trade["seller_id"], -1)):
            positions = self._positions.setdefault(user, {})
            positions.setdefault(trade["symbol"], _Position()).apply(sign * trade["quantity"], trade["price"])

    def held(self, user_id: int, symbol: str) -> float:
        """Tell how much a user holds of a symbol; negative is short."""
        position = self._positions.get(user_id, {}).get(symbol)
        return position.quantity if position else 0

    def reply(self, user_id: int, symbol: str | None = None) -> PositionReply:
        """Make the PositionReply of a user; who never traded holds nothing."""
        holdings: list[Holding] = [
            {
                "symbol": name,
                "quantity": position.quantity,
                "average_price": round(position.average_price, 4),
                "realized": round(position.realized, 2),
            }
            for name, position in sorted(self._positions.get(user_id, {}).items())
            if symbol in (None, name)
        ]
        return {"user_id": user_id, "positions": holdings}
