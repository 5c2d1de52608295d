"""Columns that many views have: a text, a count, a rate, a size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from busctl.views import formats
from busctl.views.view import Column, Tone

if TYPE_CHECKING:
    from busctl_lib.management.infos import Details, MessageStats

T = TypeVar("T")


def text(
    name: str,
    title: str,
    get: Callable[[T], str | None] | None = None,
    *,
    tone: Callable[[T], Tone] | None = None,
    wide: bool = False,
) -> Column[T]:
    """Show a text, by default the attribute that is called like the column; empty when not known."""
    read: Callable[[T], str | None] = get or attrgetter(name)
    return Column(
        name=name,
        title=title,
        value=read,
        text=lambda info: formats.safe_text(read(info) or ""),
        tone=tone,
        wide=wide,
    )


def count(name: str, title: str, get: Callable[[T], float | None] | None = None, *, wide: bool = False) -> Column[T]:
    """Show a count; 0 stands back."""
    return _number(name, title, get or attrgetter(name), formats.count, Tone.NORMAL, wide)


def rate(
    name: str, title: str, get: Callable[[T], float | None], *, bad: Tone = Tone.NORMAL, wide: bool = False
) -> Column[T]:
    """Show a rate per second; 0 stands back.

    Args:
        name: As typed.
        title: As shown.
        get: Where it is found.
        bad: The tone of any rate at all, for what should not happen.
        wide: Shown only where there is room.
    """
    return _number(name, title, get, formats.rate, bad, wide)


def size(name: str, title: str, get: Callable[[T], float | None] | None = None, *, wide: bool = False) -> Column[T]:
    """Show a number of bytes."""
    read: Callable[[T], float | None] = get or attrgetter(name)
    return Column(
        name=name, title=title, value=read, text=lambda info: formats.size(read(info)), align="right", wide=wide
    )


def _number(
    name: str,
    title: str,
    read: Callable[[T], float | None],
    show: Callable[[float | None], str],
    tone: Tone,
    wide: bool,
) -> Column[T]:
    return Column(
        name=name,
        title=title,
        value=read,
        text=lambda info: show(read(info)),
        align="right",
        tone=lambda info: tone if read(info) else Tone.MUTED,
        wide=wide,
    )


def unroutable() -> tuple[Column[Any], ...]:
    """What finds no queue, of infos with message statistics: what its sender is told, and what is lost."""
    return (
        rate(
            "returned",
            "RETURNED/s",
            lambda info: rate_of(info.message_stats, "return_unroutable"),
            bad=Tone.WARN,
            wide=True,
        ),
        rate(
            "dropped", "DROPPED/s", lambda info: rate_of(info.message_stats, "drop_unroutable"), bad=Tone.BAD, wide=True
        ),
    )


def rate_of(stats: MessageStats | None, name: str) -> float | None:
    """The rate of one count of message statistics; None when not known."""
    return rate_in_details(getattr(stats, f"{name}_details") if stats is not None else None)


def rate_in_details(details: Details | None) -> float | None:
    """How fast a number moves; None when not known."""
    return details.rate if details is not None else None


def table(found: Mapping[str, Any] | None) -> str | None:
    """Write arguments or a definition on one line, as JSON; None when there are none."""
    return json.dumps(found, ensure_ascii=False, default=str) if found else None


def marks(*found: tuple[str, object]) -> str:
    """Join the marks of what is there."""
    return " ".join(mark for mark, there in found if there)


def yes_or_no(there: bool | None) -> str | None:
    """Put a flag into a word; None when not known."""
    return None if there is None else "yes" if there else "no"


def prefetch(limit: int | None) -> str:
    """Show how many deliveries may be under way; the broker writes 0 for no limit."""
    return formats.UNKNOWN if limit is None else str(limit or "no limit")
