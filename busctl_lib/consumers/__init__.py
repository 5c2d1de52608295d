"""Consumers: handlers by action, with retry, dead letters, deduplication and decoding. RPCConsumer is here, too."""

from __future__ import annotations

from busctl_lib.consumers.consumer import Handler as Handler
from busctl_lib.consumers.consumer import MessageConsumer as MessageConsumer
from busctl_lib.consumers.failures import Reject as Reject
from busctl_lib.rpc import RPCConsumer as RPCConsumer
