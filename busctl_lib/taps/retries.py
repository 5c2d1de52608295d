"""Delayed retry, of quorum queues from RabbitMQ 4.3 on: what is given back waits before it can be taken again.

Run on 4.3.6. A queue has it by `x-delayed-retry-type` (all, returned, failed, disabled), `-min` and `-max`, or by
policy keys of these names without `x-`. A type without a minimum does nothing; the policy's type counts before the
queue's own, and of two times the smaller. What is given back by name (`basic.nack`, `basic.recover`) is delayed by
`all` and `returned`; what is rejected, or was held by a consumer that is gone, by `all` and `failed`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from busctl_lib.errors import GuardRefused
from busctl_lib.management import QueueInfo

_TOLD = re.compile(r"(\w+) \(min: (\d+)ms, max: (\d+)ms\)")
_RETURNED, _FAILED = ("all", "returned"), ("all", "failed")


class DelayedRetry(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue delays, and for how long."""

    type: str
    least_ms: int
    most_ms: int

    @property
    def delays_returned(self) -> bool:
        """Whether it delays what is given back by name."""
        return self.type in _RETURNED

    @property
    def delays_failed(self) -> bool:
        """Whether it delays what was held by a consumer that is gone."""
        return self.type in _FAILED

    @property
    def text(self) -> str:
        """How long, in words."""
        least = f"{self.least_ms / 1000:g} s"
        return least if self.most_ms <= self.least_ms else f"{least} to {self.most_ms / 1000:g} s"

    def refusal(self, queue: str) -> str:
        """Why nothing should be given back."""
        what = f"{queue} delays what is given back (delayed retry: {self.type})"
        return f"{what}: its messages would be hidden for {self.text}"

    def require(self, queue: str) -> None:
        """Refuse to give messages back where that delays them.

        Raises:
            GuardRefused: facts `queue`, `type`, `least_ms`.
        """
        if self.delays_returned:
            hint = "--accept-delay goes on"
            raise GuardRefused(self.refusal(queue), hint=hint, queue=queue, type=self.type, least_ms=self.least_ms)


def delayed_retry(info: QueueInfo, settings: Sequence[dict[str, Any]], release: tuple[int, ...]) -> DelayedRetry | None:
    """What a queue delays; None where it delays nothing.

    Args:
        info: The queue. What the broker says of it is some seconds old: it may still delay what nobody asks for now.
        settings: What policies set on it, as they are and as they were: either may count.
        release: The broker's.
    """
    if info.type != "quorum" or release < (4, 3):  # 4.0.5 takes the argument and does nothing
        return None
    found = [_asked_for(each, info.arguments or {}) for each in settings]
    told = _TOLD.match(info.delayed_retry or "")
    if told is not None:
        found.append(DelayedRetry(type=told[1], least_ms=int(told[2]), most_ms=int(told[3])))
    return max((each for each in found if each is not None), key=lambda each: each.delays_returned, default=None)


def _asked_for(settings: dict[str, Any], arguments: dict[str, Any]) -> DelayedRetry | None:
    def given(name: str) -> list[Any]:
        return [value for value in (settings.get(name), arguments.get(f"x-{name}")) if value is not None]

    kinds = given("delayed-retry-type")
    least, most = ([ms for ms in given(f"delayed-retry-{end}") if isinstance(ms, int)] for end in ("min", "max"))
    if not kinds or kinds[0] not in {*_RETURNED, *_FAILED} or not least:
        return None
    return DelayedRetry(type=kinds[0], least_ms=min(least), most_ms=min(most, default=min(least)))
