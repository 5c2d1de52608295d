"""Publish, consume, call and observe on RabbitMQ, with the safe way as the default.

Names load when first used, so `import busctl_lib` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from busctl_lib.broker import MessageBroker as MessageBroker
    from busctl_lib.codecs import Keyring as Keyring
    from busctl_lib.consumers import MessageConsumer as MessageConsumer
    from busctl_lib.consumers import RPCConsumer as RPCConsumer
    from busctl_lib.dedup import MemorySeenStore as MemorySeenStore
    from busctl_lib.dedup import SqliteSeenStore as SqliteSeenStore
    from busctl_lib.envelope import Delivery as Delivery
    from busctl_lib.envelope import Envelope as Envelope
    from busctl_lib.envelope import Outcome as Outcome
    from busctl_lib.envelope import Properties as Properties
    from busctl_lib.errors import BusError as BusError
    from busctl_lib.management import ManagementClient as ManagementClient
    from busctl_lib.poller import Poller as Poller
    from busctl_lib.publishers import MessagePublisher as MessagePublisher
    from busctl_lib.publishers import OrderPublisher as OrderPublisher
    from busctl_lib.retry import RetryPolicy as RetryPolicy
    from busctl_lib.rpc import RPCServer as RPCServer
    from busctl_lib.sandbox import PrivateBroker as PrivateBroker
    from busctl_lib.tokens import TokenSource as TokenSource

_HOMES = {
    "RetryPolicy": "retry",
    "SqliteSeenStore": "dedup",
    "MemorySeenStore": "dedup",
    "Keyring": "codecs",
    "MessageBroker": "broker",
    "MessageConsumer": "consumers",
    "RPCConsumer": "consumers",
    "Delivery": "envelope",
    "Envelope": "envelope",
    "Outcome": "envelope",
    "Properties": "envelope",
    "BusError": "errors",
    "ManagementClient": "management",
    "Poller": "poller",
    "MessagePublisher": "publishers",
    "OrderPublisher": "publishers",
    "RPCServer": "rpc",
    "PrivateBroker": "sandbox",
    "TokenSource": "tokens",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
