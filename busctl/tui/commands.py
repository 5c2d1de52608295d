"""The commands behind `:`, and how a typed beginning is completed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal, NamedTuple

from busctl_lib.schemas import METHODS

Kind = Literal["queue", "glob", "method"]


class Command(NamedTuple):
    """One command."""

    name: str
    usage: str
    help: str
    aliases: tuple[str, ...] = ()
    argument: Kind | None = None


COMMANDS: tuple[Command, ...] = (
    Command("overview", "", "what is wrong, at a glance", ("o", "home")),
    Command("queues", "[GLOB]", "all queues, or those that match", ("qs",), "glob"),
    Command("queue", "NAME", "one queue: charts, consumers, bindings", (), "queue"),
    Command("tail", "NAME", "the messages of a queue, live and without harm", ("t",), "queue"),
    Command("rpc", "[METHOD [ARGS]]", "call a method and see its reply", ("call",), "method"),
    Command("help", "", "the keys and commands", ("h",)),
    Command("q", "", "leave", ("quit", "exit")),
)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


class Typed(NamedTuple):
    """A command line, taken apart."""

    command: Command
    argument: str


def parse(line: str) -> Typed:
    """Read what was typed behind `:`.

    Raises:
        ValueError: no such command (the nearest is named), or its argument is missing.
    """
    name, _, argument = line.strip().partition(" ")
    command = _BY_NAME.get(name)
    if command is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        raise ValueError(f"no command {name!r}" + (f", did you mean {near[0]}?" if near else ", ? lists them"))
    argument = argument.strip()
    if not argument and command.usage and not command.usage.startswith("["):
        raise ValueError(f"{command.name} needs {command.usage}")
    return Typed(command, argument)


def complete(line: str, queues: Iterable[str]) -> str | None:
    """Give the whole line that the typed beginning may become; None when nothing fits."""
    name, space, argument = line.partition(" ")
    if not space:
        return next((known.name for known in COMMANDS if known.name.startswith(name)), None) if name else None
    command = _BY_NAME.get(name)
    if command is None or command.argument is None or not argument:
        return None
    names = METHODS if command.argument == "method" else sorted(queues)
    found = next((known for known in names if known.startswith(argument)), None)
    return None if found is None else f"{name} {found}"
