"""`busctl rpc`: call methods of services over the bus, list them, stand in for one, watch the calls of others."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from busctl.cli import flags, output
from busctl.cli.groups import first_word
from busctl.cli.lists import OutputOption
from busctl.cli.rpc_call import call
from busctl.cli.rpc_mock import mock
from busctl.cli.rpc_spy import spy
from busctl.views import methods as views
from busctl.views.formats import safe_text
from busctl_lib.errors import BusError, ConfigError
from busctl_lib.methods import Method

_CALL = "call"
_DIRECT = ("-q", "--queue", "-x", "--exchange")
"""Options that say where to send a body, without any method."""


class _MethodGroup(TyperGroup):
    """Has every method as a subcommand beside the real ones; options may stand before its name.

    All methods share the hidden command `call`, which also gets every name that nobody knows, to say so, and the calls
    that name a queue instead of a method.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the real commands, and to a person the methods."""
        own = super().list_commands(ctx)
        return own if ctx is None else own + [name for name in _method_names(ctx) if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find the command of a name."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        command = copy.copy(self.commands[_CALL])
        command.name, command.params = cmd_name, list(command.params)
        method = _method(ctx, cmd_name)
        command.hidden = method is None
        if method is not None:
            command.help, command.short_help = _help(method)
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring the first word that is no option to the front, where click looks for it."""
        at = first_word(self, args)
        word = None if at is None else args[at]
        if word not in self.commands and any(given.partition("=")[0] in _DIRECT for given in args):
            return super().parse_args(ctx, [_CALL, *args])
        return super().parse_args(ctx, args if at is None else [args[at], *args[:at], *args[at + 1 :]])


def _method_names(ctx: Any) -> list[str]:
    try:
        return flags.bus_file(ctx).method_names
    except ConfigError:  # told when one is called
        return []


def _method(ctx: Any, name: str) -> Method | None:
    try:
        bus = flags.bus_file(ctx)
        return bus.method(name) if name in bus.method_names else None
    except BusError:
        return None


def _help(method: Method) -> tuple[str, str]:
    """The help of a method: long and short."""

    def plain(text: str) -> str:
        return safe_text(text).replace("[", r"\[")  # square brackets are markup there

    takes = plain(method.signature or "nothing")
    title = f"{method.help[:1].upper()}{method.help[1:]}." if method.help else f"Call {method.name}."
    lines = [plain(f"{name}: {about}") for name, about in views.explain(method)]
    paragraphs = [plain(title), f"Takes: {takes}", *lines]
    return "\n\n".join(paragraphs), f"{plain(method.help)} ({takes})".strip()


rpc = typer.Typer(
    cls=_MethodGroup,
    add_completion=False,
    subcommand_metavar="METHOD [ARGS]... | --queue QUEUE BODY | list | mock | spy",
    help="Call a method of a service over the bus, and wait for its reply.",
)


@rpc.command("list")
def list_(
    ctx: typer.Context,
    form: OutputOption = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="METHOD", help="Only these.")] = None,
) -> None:
    """List the methods and what they take."""
    bus = flags.bus_file(ctx)
    found = [bus.method(name) for name in names or bus.method_names]
    output.write_list(views.METHODS, found, form or output.Format.TABLE)


rpc.command(_CALL, hidden=True, context_settings={"ignore_unknown_options": True})(call)  # numbers may be negative
rpc.command("mock")(mock)
rpc.command("spy")(spy)
