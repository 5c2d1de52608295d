"""Which messages of a queue are meant: by an expression, a group, their ids, or as those of another operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from busctl_lib.deadletters.dialects import Failure, failure_of
from busctl_lib.deadletters.fingerprints import fingerprint
from busctl_lib.documents import to_json
from busctl_lib.envelope import Delivery
from busctl_lib.expressions import Expression, GuardedExpression
from busctl_lib.journal import identity
from busctl_lib.transfers.requests import Request


class Selection:
    """Says of each message whether it is meant; to be closed.

    Args:
        request: What was asked for.
        among: Only these, by identity, each so often.
        died: Tells why and where a message of the source died.
    """

    def __init__(
        self,
        request: Request,
        among: Counter[bytes] | None = None,
        *,
        died: Callable[[Delivery], Failure] = failure_of,
    ) -> None:
        self._request = request
        self._died = died
        self._among = Counter(among) if among is not None else None
        self._ids = frozenset(request.ids)
        self._resources = ExitStack()
        self._where: GuardedExpression | None = None
        if request.where:
            self._where = self._resources.enter_context(GuardedExpression(Expression(request.where, "--where")))

    def close(self) -> None:
        """End what it started."""
        self._resources.close()

    @property
    def trouble(self) -> str | None:
        """What the expression said of the first message it failed on."""
        return self._where.trouble if self._where is not None else None

    def of(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Whether each is meant. Raises ExpressionTimedOut."""
        chosen = [self._is_meant(delivery) for delivery in deliveries]
        if self._where is not None and any(chosen):
            asked = [delivery for delivery, meant in zip(deliveries, chosen, strict=True) if meant]
            answers = iter(self._where.matches([to_json(each, only=self._where.reads) for each in asked]))
            chosen = [meant and next(answers) for meant in chosen]
        return chosen

    def _is_meant(self, delivery: Delivery) -> bool:
        if self._request.group and not fingerprint(self._died(delivery)).startswith(self._request.group):
            return False
        if self._ids and delivery.properties.message_id not in self._ids:
            known_as = identity(delivery).hex()
            if not any(len(wanted) >= 8 and known_as.startswith(wanted) for wanted in self._ids):
                return False
        if self._among is not None:
            known = identity(delivery)
            if self._among[known] <= 0:
                return False
            self._among[known] -= 1
        return True
