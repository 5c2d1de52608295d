"""Which messages of a queue are meant: by an expression, a group, their ids, or as those of another operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from busctl_lib.codecs import Keyring
from busctl_lib.deadletters.dialects import Failure, failure_of
from busctl_lib.deadletters.fingerprints import fingerprint
from busctl_lib.documents import question
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
        keys: To decrypt bodies with.
    """

    def __init__(
        self,
        request: Request,
        among: Counter[bytes] | None = None,
        *,
        died: Callable[[Delivery], Failure] = failure_of,
        keys: Keyring | None = None,
    ) -> None:
        self._request = request
        self._keys = keys
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
    def undecided(self) -> dict[str, int]:
        """Why messages were undecided, and how many."""
        return self._where.undecided.reasons if self._where is not None else {}

    @property
    def notes(self) -> list[str]:
        """What the expression reads and no message has."""
        return self._where.notes() if self._where is not None else []

    def of(self, deliveries: Sequence[Delivery]) -> list[bool | None]:
        """Whether each is meant; None: that cannot be decided, and it is to be left. Raises ExpressionTimedOut."""
        chosen: list[bool | None] = [self._is_meant(delivery) for delivery in deliveries]
        if self._where is not None and any(chosen):
            asked = [delivery for delivery, meant in zip(deliveries, chosen, strict=True) if meant]
            answers = iter(
                self._where.decide([question(each, keys=self._keys, only=self._where.reads) for each in asked])
            )
            unknown = True if self._request.undecided == "take" else None
            chosen = [meant and (unknown if (answer := next(answers)) is None else answer) for meant in chosen]
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
