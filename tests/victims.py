"""A node that may be killed, seen from one virtual host of it."""

from __future__ import annotations

from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.sandbox import PrivateBroker


class Victim:
    """A node that may be killed, with a virtual host that outlives it."""

    def __init__(self, node: PrivateBroker, vhost: TestBroker) -> None:
        # The node keeps its log of declarations in memory for up to two seconds: kill -9 in that time would lose it.
        node.ctl("eval", "mnesia:sync_log().")
        self.amqp_url, self.api_url = vhost.amqp_url, vhost.api_url
        self.kill, self.start, self.restart, self.ctl = node.kill, node.start, node.restart, node.ctl
