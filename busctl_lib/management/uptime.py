"""Whether the broker was started again since a moment: what it was doing then may be half done, its counts are new."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from busctl_lib.errors import ApiError

if TYPE_CHECKING:
    from busctl_lib.management.client import ManagementClient

_AGAIN_S = 0.25
_UPTIME_LATE_S = 6.0
"""A node counts its uptime every five seconds: it seems to have been started later than it was, or does not say yet."""


def restarted_since(management: ManagementClient, began_at: float) -> bool:
    """Whether a node was started since then (seconds since 1970), or that cannot be known."""
    deadline = time.monotonic() + _UPTIME_LATE_S
    while True:
        try:
            nodes = management.nodes()
        except ApiError:
            return True
        started = [time.time() - node.uptime / 1000 if node.uptime is not None else None for node in nodes]
        if all(at is not None and at < began_at - 1 for at in started):
            return False
        surely = any(at is not None and at - _UPTIME_LATE_S > began_at for at in started)
        if surely or not all(node.running for node in nodes) or time.monotonic() > deadline:
            return True
        time.sleep(_AGAIN_S)  # it was started at about that time, and the next count tells it better
