"""What is asked of a transfer, and what it tells while it runs."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from busctl_lib.journal import Operation
from busctl_lib.retry import REPLAYS_HEADER as REPLAYS_HEADER

Kind = Literal["replay", "move", "copy", "park", "discard", "undo"]
Route = Literal["original", "queue"]
Undecided = Literal["leave", "take"]
UNDECIDED = "undecided"
"""Why a message was written anew that may have been meant."""
OPERATION_HEADER = "busctl-operation"
MANY_REPLAYS = 3
"""From this replay of one message on, something else than another replay is due."""


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What shall happen to which messages."""

    kind: Kind
    source: str
    target: str | None = None
    """The queue that gets them; None: each goes where it came from (replay), or nowhere (discard)."""
    route: Route | None = None
    """replay: the original exchange and key, or the queue it died in; None: as long as both are the same."""
    where: str | None = None
    """jq: only the messages for whose document this is true."""
    undecided: Undecided = "leave"
    """What becomes of messages that `where` cannot decide, because it fails on them or reads what could not be read."""
    group: str | None = None
    """Only the messages of this group, by the beginning of its id."""
    ids: list[str] = []
    """Only the messages with one of these message ids, or identities."""
    limit: int | None = None
    edit: str | None = None
    """jq: the new body from the document."""
    redirects: dict[str, str] = {}
    """replay: for messages that died in this queue, the queue to send them to."""
    rate: float | None = None
    """Messages a second at most."""
    canary: int | None = None
    """Send this many, watch, then the rest."""
    watch_s: float | None = None
    """How long to watch whether messages come back."""
    fast: bool = False
    """Confirms instead of transactions."""
    rewrite: bool = False
    """What does not match is written anew behind the others of its own queue instead of being held."""
    accept_loss: bool = False
    """Go on although the queue's peek budget is gone."""
    accept_delay: bool = False
    """Go on although delayed retry hides for a while what is taken and given back."""
    discard: bool = False
    """undo of a copy: take the copies away."""

    @property
    def selects(self) -> bool:
        """Whether some messages of the queue are left alone."""
        return bool(self.where or self.group or self.ids)

    @property
    def takes(self) -> bool:
        """Whether messages leave the source."""
        return self.kind != "copy"


class Progress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a transfer is."""

    operation: str
    planned: int
    moved: int = 0
    returned: int = 0
    failed: int = 0
    unknown: int = 0
    rate: float = 0.0
    """Messages a second, lately."""
    left_s: float | None = None
    waiting: str | None = None
    """Why nothing moves just now."""
    phase: Literal["reading", "moving", "paused", "watching"] = "moving"
    came_back: int = 0

    @classmethod
    def of(cls, operation: Operation, **more: Any) -> Progress:
        """What an operation has come to, and more of it."""
        return cls(
            operation=operation.id,
            planned=operation.planned,
            moved=operation.moved,
            returned=operation.returned,
            failed=operation.failed,
            unknown=operation.unknown,
            **more,
        )

    @property
    def done(self) -> int:
        """Messages whose outcome is known, or known to be unknown."""
        return self.moved + self.returned + self.failed + self.unknown


class CameBack(msgspec.Struct, kw_only=True):
    """Messages of an operation that are dead letters again, for one cause."""

    group: str
    cause: str
    count: int


class Account(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a transfer ended."""

    operation: Operation
    reasons: dict[str, int] = {}
    """Why messages were left where they were, in words that name the exchange and key."""
    came_back: list[CameBack] | None = None
    """None where nobody watched."""
    gone: int = 0
    """Messages of the plan that somebody else had taken meanwhile."""
    problem: str | None = None
    """What ended it early."""


def plain(request: Request) -> dict[str, Any]:
    """A request as JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(request)
    return found
