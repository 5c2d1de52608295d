"""The one question before a change: what it hits, whether it may happen here, and who has to say so.

Every command that changes the bus calls `allow` once, after it has looked what it would do and before it does it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import exits
from busctl.views.formats import safe_text
from busctl_lib.errors import GuardRefused, PreconditionFailed

if TYPE_CHECKING:
    from busctl.config import Settings

YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do it without a question; in a production context only with -c NAME as well."),
]
NO_WAY_BACK = "there is no way back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command is about to do, in words. Its texts may be foreign: they are made safe where they are shown."""

    does: str
    """What it does, to be read after "to": "purge queue 'orders'"."""
    name: str
    """What has to be typed in a production context: the name of the queue, the exchange, the file ..."""
    hits: Sequence[tuple[str, str]] = ()
    """The blast radius: labels and texts, shown before the question, and with --yes as well."""
    way_back: str | None = None
    """How it is undone; None says that it cannot be, where it is destructive."""
    destructive: bool = True
    """False asks in a production context only."""
    refused: PreconditionFailed | None = None
    """Why the broker would refuse it, where that is known beforehand: then nobody is asked."""


def allow(settings: Settings, change: Change, *, yes: bool) -> None:
    """Return when the change may happen.

    A read-only context refuses it. A production context wants the name of the thing typed, or --yes together with a
    context that is spelled out on the command line. Elsewhere a destructive change is asked for (y/N), or --yes.

    Raises:
        GuardRefused: it may not; nothing was done.
        PreconditionFailed: the broker would refuse it; nothing was done.
    """
    if settings.read_only:
        raise refused_by_read_only(settings, change.does)
    _show(change)
    if change.refused is not None:
        raise change.refused
    if settings.production and yes and not settings.context_spelled_out:
        raise GuardRefused(
            f"nothing was done: context {settings.context!r} is production, and --yes alone does not {change.does}",
            hint=f"spell the context out as well: -c {settings.context} --yes",
        )
    if yes or not (settings.production or change.destructive):
        return
    if not sys.stdin.isatty():
        words = f"-c {settings.context} --yes" if settings.production else "--yes"
        raise GuardRefused(
            f"nothing was done: there is no terminal to ask at whether to {change.does}",
            hint=f"add {words} to do it without a question",
        )
    if not _agreed(settings, change):
        raise GuardRefused(f"nothing was done: the answer was not to {change.does}")


def refused_by_read_only(settings: Settings, does: str) -> GuardRefused:
    """Make the error for a change in a read-only context; for commands that want to say so before they look."""
    return GuardRefused(
        f"nothing was done: context {settings.context!r} is read-only, it does not {does}",
        hint="use a context without read_only",
    )


def _show(change: Change) -> None:
    if not change.hits and not change.destructive:
        return
    lines = [*change.hits]
    if change.refused is not None:
        lines.append(("refused", str(change.refused)))
    elif change.destructive:
        lines.append(("undo", change.way_back or NO_WAY_BACK))
    width = max(len(label) for label, _ in lines)
    exits.note(f"to {change.does}:")
    for label, text in lines:
        exits.note(f"  {label:<{width}}  {text}")


def _agreed(settings: Settings, change: Change) -> bool:
    if settings.production:
        exits.ask(f"{settings.context} is production. Type {change.name} to {change.does}: ")
        return _answer() in (change.name, safe_text(change.name))  # what cannot be typed is typed as it is shown
    exits.ask(f"{change.does[:1].upper()}{change.does[1:]}? [y/N] ")
    return _answer().strip().lower() in ("y", "yes")


def _answer() -> str:
    """Read a line; the end of the input is an empty one."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        exits.note("")
    return line.removesuffix("\n")
