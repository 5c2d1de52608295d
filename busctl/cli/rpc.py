"""`busctl rpc`: call a method of a service over the bus, or list the methods."""

from __future__ import annotations

import copy
import enum
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from busctl.cli import exits, flags, output
from busctl.cli.lists import OutputOption, seconds
from busctl.views import formats
from busctl.views import methods as views
from busctl_lib.errors import CodecError, ConfigError
from busctl_lib.schemas import METHODS, Method, coerce, nearest

if TYPE_CHECKING:
    from busctl_lib.rpc import Reply

_CALL = "call"
_PLANNED = ("mock", "spy")
"""Names kept for subcommands to come."""
_WIDTH = 100
_NUMBER = re.compile(r"^-[\d.]")
_TIMEOUT_MAX_S = 86_400


class ReplyFormat(enum.StrEnum):
    """How a reply is printed."""

    PRETTY = "pretty"
    JSON = "json"
    JSONL = "jsonl"
    RAW = "raw"


class _MethodGroup(TyperGroup):
    """Has every method as a subcommand beside the real ones; options may stand before its name.

    All methods share the hidden command `call`, which also gets every name that nobody knows, to say so.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for method in METHODS.values():
            command = copy.copy(self.commands[_CALL])
            command.name, command.hidden, command.params = method.name, False, list(command.params)
            takes = method.signature.replace("[", r"\[") or "nothing"  # square brackets are markup there
            command.help = f"{method.help[:1].upper()}{method.help[1:]}.\n\nTakes: {takes}"
            command.short_help = f"{method.help} ({takes})"
            self.add_command(command)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find the command of a name."""
        return self.commands[cmd_name if cmd_name in self.commands else _CALL]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring the first word that is no option to the front, where click looks for it."""
        at = self._first_word(args)
        return super().parse_args(ctx, args if at is None else [args[at], *args[:at], *args[at + 1 :]])

    def _first_word(self, args: list[str]) -> int | None:
        valued = {
            name
            for command in (self, *self.commands.values())
            for option in command.params
            if not getattr(option, "is_flag", False)
            for name in option.opts
        }
        skip = False
        for index, word in enumerate(args):
            if skip or word.startswith("-"):
                skip = not skip and word in valued
            else:
                return index
        return None


rpc = typer.Typer(
    cls=_MethodGroup,
    add_completion=False,
    subcommand_metavar="METHOD [ARGS]... | list",
    help="Call a method of a service over the bus, for example: busctl rpc get_orderbook AAPL",
)


@rpc.command("list")
def list_(form: OutputOption = None) -> None:
    """List the methods and what they take."""
    output.write_list(views.METHODS, list(METHODS.values()), form or output.Format.TABLE)


@rpc.command(_CALL, hidden=True, context_settings={"ignore_unknown_options": True})  # numbers may be negative
def call(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Its arguments in order, or NAME=TEXT, NAME:=JSON.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait for the reply.")] = "5s",
    form: Annotated[
        ReplyFormat | None, typer.Option("-o", "--output", help="How to print the reply.", show_default="pretty")
    ] = None,
) -> None:
    """Call a method and print its reply; the round trip time goes to stderr."""
    method = _method(ctx.info_name or "")
    for word in words or ():
        if word.startswith("-") and not _NUMBER.match(word):
            raise ConfigError(f"no such option: {word}", hint=f"see: busctl rpc {method.name} --help")
    message = coerce(method, words or [])
    timeout_s = seconds(timeout, "--timeout")
    if timeout_s > _TIMEOUT_MAX_S:
        raise ConfigError("--timeout: a call waits for at most a day")
    with flags.open_session(ctx) as session:
        from busctl_lib.consumers import RPCConsumer

        reply = RPCConsumer(session.broker).request(method.queue, message, timeout_s)
    _write(reply, form or ReplyFormat.PRETTY)
    if reply.error is not None:
        raise reply.error
    if form in (None, ReplyFormat.PRETTY):
        exits.note(f"{method.queue} answered in {formats.duration(reply.round_trip_s)}")


def _method(name: str) -> Method:
    if name in METHODS:
        return METHODS[name]
    if name in _PLANNED:
        raise ConfigError(f"`busctl rpc {name}` is not available in this version", hint="see: busctl rpc --help")
    meant = nearest(name, [*METHODS, "list"])
    raise ConfigError(
        f"no method {name!r}", hint=f"did you mean {meant}?" if meant else "`busctl rpc list` shows the methods"
    )


def _write(reply: Reply, form: ReplyFormat) -> None:
    """Print the reply; an error's body only where a program reads."""
    if form is ReplyFormat.RAW:
        output.write_bytes(reply.delivery.body)
        return
    if reply.error is not None and form is ReplyFormat.PRETTY:
        return
    try:
        message = reply.message
    except CodecError:
        if reply.error is not None:
            return
        raise
    if form is ReplyFormat.PRETTY:
        output.write_line(_harmless(pretty(message)))
    else:  # from the body, so that 150.0 stays 150.0 and long numbers keep their digits
        text = msgspec.json.format(reply.delivery.body.decode(), indent=2 if form is ReplyFormat.JSON else -1)
        output.write_line(_harmless(text))


def _harmless(text: str) -> str:
    """Escape what JSON lets through and a terminal acts on; it is still the same JSON."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def pretty(value: Any, indent: str = "") -> str:
    """Lay JSON out for reading: what fits on a line stays on it."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {pretty(item, inner)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        parts = [pretty(item, inner) for item in value]
        opening, closing = "[", "]"
    lines = ",\n".join(inner + part for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}"
