"""The commands behind `:`, and how a typed beginning is completed.

A line is a command, what it is about, then `/FILTER` and `@CONTEXT` in any order: `:queues obs_* /!dead @staging`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

Kind = Literal["queue", "exchange", "method", "context", "vhost", "theme"]
Names = Callable[[str], Iterable[str]]
"""Gives the names of a kind that are known now."""


class Command(NamedTuple):
    """One command."""

    name: str
    usage: str
    help: str
    aliases: tuple[str, ...] = ()
    argument: Kind | None = None
    free: bool = False
    """Whether all that follows is its own: a body may hold any sign."""


COMMANDS: tuple[Command, ...] = (
    Command("overview", "", "what is wrong, at a glance", ("o", "home")),
    Command("queues", "[GLOB]", "all queues, or those that match", ("qs",), "queue"),
    Command("queue", "NAME", "one queue: charts, consumers, bindings", (), "queue"),
    Command("tail", "NAME", "the messages of a queue, live and without harm", ("t",), "queue"),
    Command("calls", "QUEUE", "the calls by a queue: requests with their replies, and the time between", (), "queue"),
    Command("peek", "NAME", "what waits in a queue, within its peek budget", ("p",), "queue"),
    Command("publish", "[QUEUE]", "write a message and send it", ("pub",), "queue"),
    Command("dead", "[QUEUE]", "queues of dead letters; of one, its groups by cause", ("dlq",), "queue"),
    Command("replay", "QUEUE [FLAGS]", "dead letters go back to where they came from", ("r",), "queue", free=True),
    Command("move", "SOURCE TARGET [FLAGS]", "messages of one queue go to another", ("mv",), "queue", free=True),
    Command("copy", "SOURCE TARGET [FLAGS]", "the same; the originals stay", ("cp",), "queue", free=True),
    Command("park", "QUEUE [FLAGS]", "messages are put aside", (), "queue", free=True),
    Command("discard", "QUEUE [FLAGS]", "messages go into the trash of this machine", ("purge",), "queue", free=True),
    Command("events", "[GLOB]", "who created, closed, left what, as it happens; queue.*", ("event", "ev")),
    Command("operations", "[GLOB]", "what busctl changed; undo and resume", ("ops",)),
    Command("undo", "ID", "put back what an operation moved or took away"),
    Command("resume", "ID", "go on with an interrupted operation"),
    Command("rpc", "[METHOD [ARGS]]", "call a method and see its reply", ("call",), "method", free=True),
    Command("exchanges", "[GLOB]", "what comes in, goes out, found no queue", ("exchange", "ex"), "exchange"),
    Command("bindings", "[GLOB]", "what leads where", ("binding", "bi"), "queue"),
    Command("topology", "[QUEUE|EXCHANGE]", "who can reach what, as a tree", ("topo", "xray"), "queue"),
    Command("connections", "[GLOB]", "who is here, and whom the broker holds back", ("connection", "conn")),
    Command("channels", "[GLOB]", "who holds unacknowledged messages", ("channel", "chan")),
    Command("consumers", "[GLOB]", "who takes the messages of a queue", ("consumer", "cons"), "queue"),
    Command("nodes", "[GLOB]", "memory, disk, and what is wrong with each", ("node", "no")),
    Command("vhosts", "[GLOB]", "virtual hosts; enter goes there", ("vh",), "vhost"),
    Command("vhost", "NAME", "go to another virtual host", (), "vhost"),
    Command("policies", "[GLOB]", "which names they match, and what they set", ("policy", "pol")),
    Command("users", "[GLOB]", "who may log in; enter shows what each may do", ("user",)),
    Command("permissions", "[GLOB]", "who may declare, write and read what", ("permission", "perm")),
    Command("shovels", "[GLOB]", "what they move, and whether they do", ("shovel",)),
    Command("federation", "[GLOB]", "what other brokers feed, and whether they do", ("fed",)),
    Command("contexts", "[GLOB]", "the brokers that have a name; enter goes there", ("ctxs",), "context"),
    Command("context", "NAME", "go to another broker", ("ctx", "use"), "context"),
    Command("theme", "[NAME]", "other colours", (), "theme"),
    Command("help", "", "the keys and commands", ("h",)),
    Command("q", "", "leave", ("quit", "exit")),
)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


class Typed(NamedTuple):
    """A command line, taken apart."""

    command: Command
    argument: str
    filter: str = ""
    """What stood behind the /."""
    context: str = ""
    """What stood behind the @."""


def parse(line: str, aliases: Mapping[str, str] | None = None) -> Typed:
    """Read what was typed behind `:`.

    Args:
        line: What was typed; `@NAME` alone goes to that context.
        aliases: The user's own names for whole lines.

    Raises:
        ValueError: no such command (the nearest is named), or its argument is missing.
    """
    line = line.strip()
    if line.startswith("@"):
        line = f"context {line[1:]}"
    name, _, rest = line.partition(" ")
    if aliases and name in aliases:
        line = f"{aliases[name]} {rest}".strip()
        name, _, rest = line.partition(" ")
    command = _BY_NAME.get(name)
    if command is None:
        near = difflib.get_close_matches(name, [*_BY_NAME, *(aliases or ())], n=1)
        raise ValueError(f"no command {name!r}" + (f", did you mean {near[0]}?" if near else ", ? lists them"))
    typed = Typed(command, rest.strip()) if command.free else _taken_apart(command, rest)
    if not typed.argument and command.usage and not command.usage.startswith("["):
        raise ValueError(f"{command.name} needs {command.usage}")
    return typed


def _taken_apart(command: Command, rest: str) -> Typed:
    argument: list[str] = []
    filtered, context = "", ""
    for word in rest.split(" "):
        if word.startswith("@") and len(word) > 1:
            context = word[1:]
        elif filtered or (word.startswith("/") and len(word) > 1):
            filtered = f"{filtered} {word}" if filtered else word  # a filter may hold blanks
        else:
            argument.append(word)
    return Typed(command, " ".join(argument).strip(), filtered.removeprefix("/"), context)


def complete(line: str, names: Names, aliases: Iterable[str] = ()) -> str | None:
    """Give the whole line that the typed beginning may become; None when nothing fits."""
    head, blank, last = line.rpartition(" ")
    if last.startswith("@"):
        return _first(head + blank, last[1:], sorted(names("context")), "@")
    name, blank, argument = line.partition(" ")
    if not blank:
        return _first("", name, [*(known.name for known in COMMANDS), *aliases]) if name else None
    command = _BY_NAME.get(name)
    if command is None or command.argument is None or not argument:
        return None
    return _first(f"{name} ", argument, sorted(names(command.argument)))


def _first(before: str, beginning: str, known: Iterable[str], sign: str = "") -> str | None:
    found = next((name for name in known if name.startswith(beginning)), None)
    return None if found is None else f"{before}{sign}{found}"
