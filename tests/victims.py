"""A node that may be killed, seen from one virtual host of it."""

from __future__ import annotations

from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.sandbox import PrivateBroker


class Victim:
    """A node that may be killed, with a virtual host that outlives it."""

    def __init__(self, node: PrivateBroker, vhost: TestBroker) -> None:
        self._node = node
        self.amqp_url, self.api_url = vhost.amqp_url, vhost.api_url
        self.kill, self.start, self.restart, self.ctl = node.kill, node.start, node.restart, node.ctl
        self.keep()

    def keep(self, queue_type: str = "classic") -> None:
        """Have what was declared written down: kill -9 soon after a declaration would take the queue along.

        Mnesia (before 4.3) keeps its log of declarations in memory for up to two seconds. Where a quorum queue is on
        disk is known in memory only until the node is stopped in order: it would come back with its name and without
        its messages (seen on 3.10.8, 4.0.5 and 4.3.6), which no client can mend.
        """
        if queue_type == "quorum":
            self._node.restart()
        self._node.ctl("eval", "mnesia:sync_log().")
