"""What a transfer is asked for, as the flags of its command: written, and read again after its user changed them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from busctl.views.formats import parse_duration

if TYPE_CHECKING:
    from busctl_lib.transfers import Request


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _route(text: str) -> str:
    if text not in ("original", "queue"):
        raise ValueError
    return text


def _undecided(text: str) -> str:
    if text not in ("leave", "take"):
        raise ValueError
    return text


_VALUES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "--to": ("target", str, "QUEUE"),
    "--route": ("route", _route, "original or queue"),
    "--where": ("where", str, "JQ"),
    "--undecided": ("undecided", _undecided, "leave or take"),
    "--group": ("group", str, "ID"),
    "--ids": ("ids", lambda text: [one.strip() for one in text.split(",") if one.strip()], "A,B"),
    "--limit": ("limit", _count, "a number"),
    "--rate": ("rate", _rate, "messages a second"),
    "--canary": ("canary", _count, "a number"),
    "--watch": ("watch_s", parse_duration, "a duration such as 30s"),
    "--edit": ("edit", str, "JQ"),
}
_SWITCHES = {
    "--fast": "fast",
    "--rewrite": "rewrite",
    "--accept-loss": "accept_loss",
    "--accept-delay": "accept_delay",
}
_OF_REPLAY = ("--route", "--canary", "--watch", "--edit")
_TARGETED = ("move", "copy")


def flags_of(request: Request) -> list[str]:
    """The flags that make this request, beside its queues."""
    words: list[str] = []
    for flag, (name, _, _) in _VALUES.items():
        value = getattr(request, name)
        if value in (None, [], "leave") or (flag == "--to" and request.kind in _TARGETED):
            continue
        shown = f"{value:g}s" if flag == "--watch" else ",".join(value) if flag == "--ids" else str(value)
        words += [flag, f"{value:g}" if flag == "--rate" else shown]
    return words + [flag for flag, name in _SWITCHES.items() if getattr(request, name)]


def command_words(request: Request) -> list[str]:
    """The command that makes this request."""
    queues = [request.source, *([request.target] if request.kind in _TARGETED and request.target else [])]
    return [request.kind, *queues, *flags_of(request)]


def with_flags(request: Request, text: str) -> Request:
    """Make the request anew with other flags.

    Raises:
        ValueError: what is wrong with them.
    """
    from busctl_lib.transfers import Request

    facts: dict[str, Any] = {"kind": request.kind, "source": request.source}
    if request.kind in _TARGETED:
        facts["target"] = request.target
    words = iter(shlex.split(text))
    for word in words:
        flag, sign, value = word.partition("=")
        if flag in _SWITCHES and not sign:
            facts[_SWITCHES[flag]] = True
            continue
        if flag not in _VALUES or (flag in _OF_REPLAY and request.kind != "replay"):
            raise ValueError(f"{request.kind} has no {word}; there are: {' '.join(flags_for(request))}")
        name, read, what = _VALUES[flag]
        given = value if sign else next(words, None)
        try:
            facts[name] = read(given or "")
        except ValueError:
            raise ValueError(f"{flag} wants {what}") from None
    if facts.get("canary") and "watch_s" not in facts:
        raise ValueError("--canary needs --watch: how long to look whether messages come back")
    return Request(**facts)


def flags_for(request: Request) -> Sequence[str]:
    """The flags that a request of its kind may have."""
    names = [flag for flag in _VALUES if request.kind == "replay" or flag not in _OF_REPLAY]
    return [flag for flag in names if not (flag == "--to" and request.kind in _TARGETED)] + list(_SWITCHES)
