"""Counts of all queues from a node's Prometheus listener: a quarter of what the management API spends on them.

They say nothing about who may see what, so they only fill in queues that the API named.
Source: https://www.rabbitmq.com/docs/prometheus#detailed-endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from busctl_lib.management.infos import QueueInfo, QueueName
from busctl_lib.management.infos_cluster import OverviewInfo

MESSAGES = "metrics/detailed?family=queue_coarse_metrics"
CONSUMERS = "&family=queue_consumer_count"
_COUNTS = {
    "messages_ready": "messages_ready",
    "messages_unacked": "messages_unacknowledged",
    "messages": "messages",
    "consumers": "consumers",
}
_IDENTITY = re.compile(
    rb'^rabbitmq_identity_info\{rabbitmq_node="([^"\\]*)",rabbitmq_cluster="([^"\\]*)"[,}]', re.MULTILINE
)
_LABELS = re.compile(rb'vhost="([^"\\]*)",queue="([^"\\]*)"', re.DOTALL)
Counts = dict[str, dict[bytes, int]]
"""By field of a queue, then by the labels of a queue, as they came."""


class Listener(NamedTuple):
    """Where the counts of all queues can be asked for, and who must answer."""

    url: str
    """For the message counts; with CONSUMERS behind it for the consumers as well."""
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
    return Listener(f"{scheme}://{where}:{found[0].port}/{MESSAGES}", overview.node, overview.cluster_name)


def read_counts(text: bytes, listener: Listener) -> Counts | None:
    """Read the answer; None when it was another broker that gave it (a tunnel, a proxy)."""
    identity = _IDENTITY.search(text)
    if identity is None or tuple(label.decode("utf-8", "replace") for label in identity.groups()) != listener[1:]:
        return None
    return {field: _numbers(text, what) for what, field in _COUNTS.items()}


def _numbers(text: bytes, what: str) -> dict[bytes, int]:
    """Read one metric of all queues. Split, not matched: a regular expression takes five times as long."""
    found = {}
    for piece in text.split(f"\nrabbitmq_detailed_queue_{what}{{".encode())[1:]:
        labels, _, number = piece.partition(b"\n")[0].rpartition(b"} ")
        whole = number.removesuffix(b".0")
        if whole.isdigit():
            found[labels] = int(whole)
    return found


def labels_of(info: QueueInfo | QueueName) -> bytes:
    """How the listener names a queue."""
    return f'vhost="{info.vhost}",queue="{info.name}"'.encode()


def key_of(labels: bytes) -> tuple[str, str] | None:
    """(vhost, queue) of such labels; None when they could be another's: 3.x does not escape what 4.x does."""
    found = _LABELS.fullmatch(labels)
    return (found[1].decode("utf-8", "replace"), found[2].decode("utf-8", "replace")) if found is not None else None


def fill_counts(infos: Iterable[QueueInfo], counts: Counts) -> None:
    """Write counts into queues; one declared a moment ago, or with a quote or backslash in its name, stays without."""
    named = [(labels_of(info), info) for info in infos]
    # As `key_of` would say, in a third of the time.
    known = [(labels, info) for labels, info in named if labels.count(b'"') == 4 and b"\\" not in labels]
    for field, numbers in counts.items():
        for labels, info in known:
            if (number := numbers.get(labels)) is not None:
                setattr(info, field, number)
