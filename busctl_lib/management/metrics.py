"""Counts of all queues from a node's Prometheus listener: a quarter of what the management API spends on them.

They say nothing about who may see what, so they only fill in queues that the API named.
Source: https://www.rabbitmq.com/docs/prometheus#detailed-endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from busctl_lib.management.infos import OverviewInfo, QueueInfo

QUERY = "metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"
_COUNTS = {
    "messages_ready": "messages_ready",
    "messages_unacked": "messages_unacknowledged",
    "messages": "messages",
    "consumers": "consumers",
}
# 3.x does not escape what 4.x does: a name with a quote or a backslash cannot be told from another.
_LABEL = r'"([^"\\]*)"'
_LINE = re.compile(
    rf"^rabbitmq_detailed_queue_({'|'.join(_COUNTS)})\{{vhost={_LABEL},queue={_LABEL}\}} (\d+)(?:\.0+)?$".encode(),
    re.MULTILINE,
)
_IDENTITY = re.compile(
    rf"^rabbitmq_identity_info\{{rabbitmq_node={_LABEL},rabbitmq_cluster={_LABEL}[,}}]".encode(), re.MULTILINE
)


class Listener(NamedTuple):
    """Where the counts of all queues can be asked for, and who must answer."""

    url: str
    node: str
    cluster: str


def listener_of(overview: OverviewInfo, api_url: str) -> Listener | None:
    """Find the one listener that knows all queues: a node tells of its own only, so there must be no other node."""
    listeners = overview.listeners or []
    nodes = {each.node for each in listeners}
    found = [each for each in listeners if each.protocol in ("http/prometheus", "https/prometheus")]
    if len(nodes) != 1 or len(found) != 1 or not found[0].port or not overview.node or not overview.cluster_name:
        return None
    host = urlsplit(api_url).hostname or "localhost"
    scheme = str(found[0].protocol).partition("/")[0]
    where = f"[{host}]" if ":" in host else host
    return Listener(f"{scheme}://{where}:{found[0].port}/{QUERY}", overview.node, overview.cluster_name)


def fill_counts(infos: Iterable[QueueInfo], text: bytes, listener: Listener) -> bool:
    """Write the counts into queues; False when it was another broker that answered (a tunnel, a proxy).

    A queue that was declared a moment ago, or has a quote or a backslash in its name, stays without.
    """
    identity = _IDENTITY.search(text)
    if identity is None or (_plain(identity[1]), _plain(identity[2])) != (listener.node, listener.cluster):
        return False
    by_key = {(info.vhost, info.name): info for info in infos}
    for what, vhost, name, number in _LINE.findall(text):
        info = by_key.get((_plain(vhost), _plain(name)))
        if info is not None:
            setattr(info, _COUNTS[what.decode()], int(number))
    return True


def _plain(label: bytes) -> str:
    return label.decode("utf-8", "replace")
