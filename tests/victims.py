"""A node that may be killed, and what is known to outlive that."""

from __future__ import annotations

from waiting import wait_until

from busctl_lib.pytest_plugin import TestBroker
from busctl_lib.sandbox import PrivateBroker


class Victim:
    """A node that may be killed, seen from one virtual host of it."""

    def __init__(self, node: PrivateBroker, vhost: TestBroker) -> None:
        written(node, vhost.name)
        self.amqp_url, self.api_url = vhost.amqp_url, vhost.api_url
        self.kill, self.start, self.restart, self.ctl = node.kill, node.start, node.restart, node.ctl


def written(node: PrivateBroker, name: str) -> None:
    """Wait until a new name is on the node's disk.

    It keeps its log of declarations in memory for up to two seconds: kill -9 in that time would lose what it names.
    """
    database = node.log_path.parent / "data" / node.node_name
    wait_until(lambda: any(name.encode() in file.read_bytes() for file in database.iterdir() if file.is_file()))
