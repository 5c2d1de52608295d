"""The source of an operation: its look is counted, then it is taken into the hand, then what stays is given back."""

from __future__ import annotations

from contextlib import ExitStack

from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.broker import MessageBroker
from busctl_lib.management import ManagementClient, QueueInfo
from busctl_lib.taps.budget import PeekBudget, Spending, peek_budget, spend
from busctl_lib.transfers.reading import open_mover
from busctl_lib.transfers.requests import Request


class Source:
    """The queue that an operation takes from.

    Args:
        broker: To its vhost.
        management: Of the same cluster.
        request: What shall happen; it says what may happen all the same.
        exact: Whether messages are settled in transactions.
    """

    def __init__(self, broker: MessageBroker, management: ManagementClient, request: Request, *, exact: bool) -> None:
        self._broker, self._management, self._request = broker, management, request
        self._mode = Mode.EXACT if exact else Mode.FAST
        self._counted = ExitStack()
        self._budget: PeekBudget | None = None
        self._spending: Spending | None = None
        self._mover: Mover | None = None

    @property
    def budget(self) -> PeekBudget:
        """Of the look that was counted."""
        assert self._budget is not None
        return self._budget

    @property
    def again(self) -> bool:
        """Whether it can be read twice for nothing."""
        return not self.budget.counts

    def count(self, info: QueueInfo | None = None) -> None:
        """Count the look.

        Args:
            info: The queue, if it was read a moment ago.

        Raises:
            GuardRefused: its peek budget is gone, or what stays would be delayed.
        """
        request = self._request
        vhost = self._broker.virtual_host
        self._budget = peek_budget(self._management, vhost, request.source, info=info, sure=True)
        self._budget.require(accept_loss=request.accept_loss, accept_delay=request.accept_delay)
        self._spending = self._counted.enter_context(spend(self._budget, accept_loss=request.accept_loss))

    def take(self) -> Mover:
        """Take it into the hand, once. Raises as of `open_mover`."""
        if self._mover is None:
            self._broker.guard_change(f"{self._request.kind} of {self._request.source!r}")
            self._mover = open_mover(self._broker, self._request.source, self._mode, self._spending)
        return self._mover

    def close(self) -> None:
        """Give back what stays, and say so where that is known."""
        mover, self._mover = self._mover, None
        if mover is not None and mover.close() and self._spending is not None:
            self._spending.gave_back()
        self._counted.close()
