"""The desk: people at screens who look at books, trades and positions, and read market snapshots and statements.

Calls over direct reply-to.
"""

from __future__ import annotations

import random
from typing import Any

from busctl.demo.flow import BASE_PRICES, USERS
from busctl.demo.service import Service, run_service
from busctl.demo.topology import ACCOUNT_STATEMENTS, MARKET_SNAPSHOTS
from busctl_lib.consumers import MessageConsumer, RPCConsumer
from busctl_lib.schemas import METHODS

_SHARE = 0.1
"""Calls per order."""
_TIMEOUT_S = 3.0


class Desk(Service):
    """Asks one question after the other."""

    name = "desk"

    def run(self) -> None:
        """Ask until `stopping` is set."""
        rpc = RPCConsumer(self.broker)
        reader = MessageConsumer(self.broker, keys=self.keys())
        reader.register_default(lambda _message, _properties: None)
        reader.start_consuming(ACCOUNT_STATEMENTS, background=True)
        reader.start_consuming(MARKET_SNAPSHOTS, background=True)
        draw = random.Random(self.seed)  # noqa: S311 - a sample, not a secret
        while not self.stopping.wait(draw.expovariate(self.rate * _SHARE)):
            name, arguments = _question(draw)
            with self.carrying_on(f"calling {name}"):
                rpc.call(queue_name=METHODS[name].queue, message={"action": name, **arguments}, timeout=_TIMEOUT_S)
        reader.stop()


def _question(draw: random.Random) -> tuple[str, dict[str, Any]]:
    symbol = draw.choice(list(BASE_PRICES))
    questions: list[tuple[str, dict[str, Any]]] = [
        ("get_orderbook", {"symbol": symbol, "depth": 5}),
        ("get_trades", {"symbol": symbol, "limit": 10}),
        ("get_position", {"user_id": draw.choice(USERS)}),
        ("get_symbols", {}),
    ]
    return draw.choices(questions, (5, 2, 2, 1))[0]


if __name__ == "__main__":
    run_service(Desk)
