"""The command line: which commands there are, and how the program begins and ends.

A command's module is imported when the command runs, never for `busctl --help`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from busctl.cli import examples, exits, flags, typed


class Entry(NamedTuple):
    """Where a command lives and what it does."""

    target: str
    """module:name of a function, or of a typer.Typer for a command with subcommands."""
    help: str


TASKS: dict[str, dict[str, Entry]] = {
    "See the bus": {
        "overview": Entry("busctl.cli.overview:overview", "Show the state of the whole bus on one screen."),
        "queues": Entry("busctl.cli.queues:queues", "List queues, or show one."),
        "exchanges": Entry("busctl.cli.exchanges:exchanges", "List exchanges, or show one."),
        "bindings": Entry("busctl.cli.bindings:bindings", "List what leads where."),
        "topology": Entry("busctl.cli.topology:topology", "Draw who can reach what."),
        "connections": Entry("busctl.cli.connections:connections", "List who is connected."),
        "channels": Entry("busctl.cli.channels:channels", "List channels."),
        "consumers": Entry("busctl.cli.consumers:consumers", "List who takes messages."),
        "nodes": Entry("busctl.cli.nodes:nodes", "List the nodes of the cluster."),
        "vhosts": Entry("busctl.cli.vhosts:vhosts", "List virtual hosts."),
        "policies": Entry("busctl.cli.policies:policies", "List policies; set and clear one."),
        "users": Entry("busctl.cli.users:users", "List users, or show one."),
        "permissions": Entry("busctl.cli.permissions:permissions", "List who may do what."),
        "shovels": Entry("busctl.cli.shovels:shovels", "List shovels and their state."),
        "federation": Entry("busctl.cli.federation:federation", "List federation links and their state."),
        "events": Entry("busctl.cli.events:events", "Follow what is created, closed and left."),
    },
    "See messages": {
        "tail": Entry("busctl.cli.tail:tail", "Show live messages of a queue without taking them."),
        "peek": Entry("busctl.cli.peek:peek", "Look at what waits in a queue, and give it back in order."),
        "record": Entry("busctl.cli.record:record", "Keep the messages of queues in a capture."),
    },
    "Send and call": {
        "publish": Entry("busctl.cli.publish:publish", "Publish a message and wait until the broker has it."),
        "play": Entry("busctl.cli.play:play", "Publish the messages of a capture again."),
        "rpc": Entry("busctl.cli.rpc:rpc", "Call a method of a service over the bus."),
    },
    "Mend: dead letters and moving messages": {
        "dead": Entry("busctl.cli.dead:dead", "Find dead letters, and tell why they died."),
        "replay": Entry("busctl.cli.replay:replay", "Send dead letters back to where they came from, losing none."),
        "move": Entry("busctl.cli.transfers:move", "Move messages from one queue to another."),
        "copy": Entry("busctl.cli.transfers:copy", "Copy messages of one queue to another."),
        "park": Entry("busctl.cli.transfers:park", "Put messages of a queue aside."),
        "discard": Entry("busctl.cli.transfers:discard", "Throw messages of a queue away, into the trash."),
        "ops": Entry("busctl.cli.ops:ops", "List what busctl changed; resume, undo or export it."),
    },
    "Change the bus": {
        "declare": Entry("busctl.cli.declare:declare", "Declare a queue, an exchange, a binding or a virtual host."),
        "delete": Entry("busctl.cli.delete:delete", "Delete a queue, an exchange, a binding or a virtual host."),
        "purge": Entry("busctl.cli.purge:purge", "Drop what waits in a queue."),
        "close-connection": Entry("busctl.cli.close_connection:close_connection", "Close a client's connection."),
        "definitions": Entry("busctl.cli.definitions:definitions", "Export, compare and import what is declared."),
    },
    "Begin and set up": {
        "demo": Entry("busctl.cli.demo:demo", "Start a private RabbitMQ with a live trading bus and open the console."),
        "contexts": Entry("busctl.cli.contexts:contexts", "Name brokers: list, add, use, remove and check them."),
        "doctor": Entry("busctl.cli.doctor:doctor", "Check this installation, and say how to mend it."),
        "completion": Entry("busctl.cli.completion:completion", "Print the completion of a shell: bash, zsh, fish."),
        "bus": Entry("busctl.cli.bus:bus", "The bus file: write one from a live broker, check one."),
        "keys": Entry("busctl.cli.keys:keys", "Keep the keys that message bodies are encrypted with."),
    },
}
"""The commands by what one comes for; the help has them in this order."""
COMMANDS = {name: entry for commands in TASKS.values() for name, entry in commands.items()}


class _Command(TyperCommand):
    """A command that is known by name and help; the real one is made when it is called."""

    def __init__(self, name: str, entry: Entry, task: str) -> None:
        super().__init__(name, help=entry.help, rich_help_panel=task)
        self._target = entry.target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Load the real command and let it read its arguments."""
        return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> Any:
        """Make the real command."""
        module, _, name = self._target.partition(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name=self.name)(found)
            found = app
        found.info.name = found.info.name or self.name
        command = typer.main.get_command(found)
        _add_global_flags(command)
        examples.show(command, self.name or "")
        return command


class _Root(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.params += flags.parameters()
        for task, commands in TASKS.items():
            for name, entry in commands.items():
                self.add_command(_Command(name, entry, task))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `help COMMAND` for what it means."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)


def _add_global_flags(command: Any) -> None:
    command.params += flags.parameters()
    if isinstance(command, TyperGroup):
        for name in command.list_commands(None):  # type: ignore[arg-type]
            _add_global_flags(command.commands[name])


app = typer.Typer(cls=_Root, add_completion=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from busctl.cli import output

        output.write_line(f"busctl {version('busctl')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Operate a RabbitMQ message bus from the terminal. Without a command: the console."""
    if ctx.invoked_subcommand is not None:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        from busctl.cli import output

        output.write_line(ctx.get_help())
        raise typer.Exit(exits.ExitCode.USAGE)
    from busctl.tui.app import run_console

    with flags.open_session(ctx) as session:
        for left_behind in run_console(session):
            exits.note(f"busctl: {left_behind}")


def program() -> Any:
    """Make the group of all commands, none of them loaded."""
    _name_values_only()
    command = typer.main.get_command(app)
    examples.show(command)
    return command


def _name_values_only() -> None:
    """Let help call a number N, and name no type of what takes no value, nor of arguments, whose name says it."""
    option = typer.core.TyperOption
    named = getattr(option, "display_type_rich", None)  # of the typer that we know; another names its types
    if named is not None and named.__module__ == option.__module__:

        def of_values(self: Any, ctx: Any) -> Any:
            number = self.metavar is None and self.bare_type() in ("int", "float")
            return None if self.is_flag else "N" if number else named(self, ctx)

        option.display_type_rich = of_values  # type: ignore[method-assign]
        typer.core.TyperArgument.display_type_rich = lambda self, ctx: None  # type: ignore[method-assign]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    typed_flags = flags.GlobalFlags()
    try:
        typed.take_over()
        code = program().main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="busctl",
            standalone_mode=False,
            obj=typed_flags,
        )
    except typer.Abort:
        return exits.ExitCode.INTERRUPTED
    except SystemExit:  # what typer makes of a reader that left while it printed help
        return exits.ExitCode.DONE
    except typer.TyperException as error:  # the command line itself is wrong
        # Without a message it has shown its help instead.
        return exits.usage(_usage_text(error)) if error.format_message() else exits.ExitCode.USAGE
    except BaseException as error:  # noqa: BLE001 - the program's boundary: every end has its code and its line
        return exits.report(error, debug=typed_flags.debug)
    return code if isinstance(code, int) else exits.ExitCode.DONE


def _usage_text(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "busctl"
    text = error.format_message()
    for theirs, ours in _PLAINER.items():
        text = text.replace(theirs, ours)
    return f"{text} ({_what_there_is(text, context)}see: {path} --help)"


def _what_there_is(text: str, context: Any) -> str:
    """What could have stood there instead: the verbs of a group, or an option behind its command."""
    if context is None or "Did you mean" in text:
        return ""
    if context.parent is None:
        return "the options of a command stand behind its name; " if text.startswith("No such option") else ""
    verbs = getattr(context.command, "commands", {})
    wanted = text.startswith(("No such command", "Missing command")) and "list" not in verbs
    return f"there are: {', '.join(verbs)}; " if wanted else ""


_PLAINER = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "a whole number is needed",
    "Input should be a valid number, unable to parse string as a number": "a number is needed",
}
"""What typer passes on from the library under it, in our words."""


def main() -> NoReturn:
    """Be the program `busctl`."""
    exits.fill_missing_streams()
    exits.let_streams_take_anything()
    exits.die_quietly_on_signals()
    code = run()
    exits.leave_at_signals(code)
    sys.exit(code)
