"""What happens on a broker, as it happens: who created, closed, left, set or cleared what.

From the exchange amq.rabbitmq.event where the plugin rabbitmq_event_exchange is on; else from the differences between
snapshots of the management API, which see neither what came and went between two, nor who did it.
Source: https://www.rabbitmq.com/docs/event-exchange.
"""

from busctl_lib.events.event import GAP, Event, Feed, masked
from busctl_lib.events.exchange import EXCHANGE, ExchangeFeed, MuteExchange, NoExchange, exchange_vhost, open_exchange
from busctl_lib.events.opening import Source, Via, open_feed
from busctl_lib.events.snapshots import SnapshotFeed

__all__ = [
    "EXCHANGE",
    "GAP",
    "Event",
    "ExchangeFeed",
    "Feed",
    "MuteExchange",
    "NoExchange",
    "SnapshotFeed",
    "Source",
    "Via",
    "exchange_vhost",
    "masked",
    "open_exchange",
    "open_feed",
]
