"""What policies set on a queue: as the broker says, or for one that its statistics do not know yet, by the policies."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from busctl_lib.errors import BusError
from busctl_lib.management.infos import PolicyInfo, QueueInfo

if TYPE_CHECKING:
    from busctl_lib.management.client import ManagementClient

_APPLIES = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}


def settings_of(management: ManagementClient, info: QueueInfo) -> dict[str, Any]:
    """What policies set on a queue, the operators' among them.

    Args:
        management: Asked for the policies of a queue that is a few seconds old, which the broker says nothing of.
        info: The queue.
    """
    if info.effective_policy_definition is not None:
        return info.effective_policy_definition
    return settings_now(management, info)


def settings_now(management: ManagementClient, info: QueueInfo) -> dict[str, Any]:
    """`settings_of`, by the policies as they are: what the broker says of a queue is up to seven seconds old."""
    users, operators = management.policies(info.vhost), list[PolicyInfo]()
    with contextlib.suppress(BusError):  # seen by administrators only
        operators = management.operator_policies(info.vhost)
    return _merged(set_by(info, users), set_by(info, operators))


def set_by(info: QueueInfo, policies: Iterable[PolicyInfo]) -> dict[str, Any]:
    """What the one of these policies sets that applies to a queue."""
    matching = []
    for policy in policies:
        with contextlib.suppress(re.error):
            applies = policy.apply_to in ("all", "queues", _APPLIES.get(info.type or "classic"))
            if applies and re.search(policy.pattern or "", info.name):
                matching.append(policy)
    best = max(matching, key=lambda policy: policy.priority or 0, default=None)
    return (best.definition or {}) if best is not None else {}


def _merged(users: dict[str, Any], operators: dict[str, Any]) -> dict[str, Any]:
    """Both together: of two limits the smaller counts (less than 0 is none), of other settings the operators'."""
    found = users | operators
    for name in users.keys() & operators.keys():
        limits = [limit for limit in (users[name], operators[name]) if isinstance(limit, int) and limit >= 0]
        if limits:
            found[name] = min(limits)
    return found
