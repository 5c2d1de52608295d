"""The queues and exchanges of the sample bus: names, arguments, bindings.

Everything is bounded, so that the bus can run all day. `Q.dead` takes what `Q` gives up, through the default exchange.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from busctl_lib.broker import MessageBroker

TES_REQUESTS = "tes_requests"
TES_RESPONSES = "tes_responses"
TES_FILLS = "tes_fills"
OBS_REQUESTS = "obs_requests"
OBS_RESPONSES = "obs_responses"
TRADE_EVENTS = "trade_events"
MARKET_SNAPSHOTS = "market_snapshots"
ACCOUNT_STATEMENTS = "account_statements"
RISK_QUOTES = "risk_quotes"
TRADE_TAPE = "trade_tape"
MARKET_DATA = "market_data"
"""The topic exchange: `quotes.SYMBOL`, `trades.SYMBOL`, `snapshots`.

The fanout exchange of the trades is called as its queue.
"""

QUOTE_TTL_MS = 5_000


def dead(queue: str) -> str:
    """Name the dead-letter queue of a queue."""
    return f"{queue}.dead"


def _to(queue: str) -> dict[str, Any]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}


_QUORUM = {"x-queue-type": "quorum"}
_GRAVE = {"x-max-length": 2_000}
_WORK = {"x-max-length": 20_000, "x-overflow": "reject-publish"}


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue and what it is bound to (exchange, routing key)."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    bindings: tuple[tuple[str, str], ...] = ()


EXCHANGES = {TRADE_EVENTS: "fanout", MARKET_DATA: "topic"}

QUEUES = (
    Queue(TES_REQUESTS, _WORK | _to(dead(TES_REQUESTS))),
    Queue(dead(TES_REQUESTS), _GRAVE),
    Queue(TES_RESPONSES, {"x-max-length": 10_000}),
    Queue(TES_FILLS, {"x-max-length": 50_000}, ((TRADE_EVENTS, ""),)),
    Queue(OBS_REQUESTS, _QUORUM | _WORK | _to(dead(OBS_REQUESTS))),
    Queue(dead(OBS_REQUESTS), _QUORUM | _GRAVE),
    Queue(OBS_RESPONSES, {"x-max-length": 10_000}),
    Queue(TRADE_EVENTS, _QUORUM | {"x-max-length": 50_000} | _to(dead(TRADE_EVENTS)), ((TRADE_EVENTS, ""),)),
    Queue(dead(TRADE_EVENTS), _QUORUM | _GRAVE),
    Queue(
        RISK_QUOTES,
        {"x-message-ttl": QUOTE_TTL_MS, "x-max-length": 10_000} | _to(dead(RISK_QUOTES)),
        ((MARKET_DATA, "quotes.*"),),
    ),
    Queue(dead(RISK_QUOTES), _GRAVE),
    Queue(MARKET_SNAPSHOTS, {"x-max-length": 500}, ((MARKET_DATA, "snapshots"),)),
    Queue(ACCOUNT_STATEMENTS, {"x-max-length": 500}),
    Queue(
        TRADE_TAPE,
        {"x-queue-type": "stream", "x-max-length-bytes": 5_000_000, "x-stream-max-segment-size-bytes": 1_000_000},
        ((MARKET_DATA, "trades.*"),),
    ),
)


def declare(broker: MessageBroker) -> None:
    """Declare all of it.

    Effect: exchanges, queues and bindings are there; what was there already in the same form stays as it is.
    """
    for exchange, kind in EXCHANGES.items():
        broker.declare_exchange(exchange, exchange_type=kind)
    for queue in QUEUES:
        broker.declare_queue(queue.name, arguments=queue.arguments or None)
        for exchange, key in queue.bindings:
            broker.bind_queue(queue.name, exchange, key)
