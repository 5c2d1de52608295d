"""The flags that every command takes, before or after its name, and the session they open."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import exits
from busctl.config import RUNNING_DEMO, Flags, resolve
from busctl.session import Session
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl.busfile import BusFile

_PANEL = "Broker"


class GlobalFlags(Flags):
    """What was typed anywhere on the command line."""

    debug: bool = False
    bus_file: str | None = None
    """The bus file; the nearest if None."""

    @property
    def bus_path(self) -> Path | None:
        """The bus file that was named, by flag or BUSCTL_BUS_FILE."""
        named = self.bus_file or os.environ.get("BUSCTL_BUS_FILE")
        return Path(named) if named else None


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    # Called for the root and for the command: what is not typed here must not undo what was typed there.
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{param.opts[-1]}: {value!r} is not valid UTF-8") from None
    if value == "":  # of a script whose variable is not set: what it meant is not what there is without the flag
        raise ConfigError(f"{param.opts[-1]} is empty")
    if value and param.name is not None and isinstance(ctx.obj, GlobalFlags):
        setattr(ctx.obj, param.name, value)
    return value


def _option(*names: str, help_text: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, help=help_text, metavar=metavar, expose_value=False, callback=_remember, rich_help_panel=_PANEL
    )


def _declaration(
    context: Annotated[
        str | None, _option("-c", "--context", help_text="The broker to talk to, by its name.", metavar="NAME")
    ] = None,
    amqp_url: Annotated[
        str | None, _option("--amqp-url", help_text="amqp://user:password@host:port/vhost", metavar="URL")
    ] = None,
    api_url: Annotated[
        str | None, _option("--api-url", help_text="The management API, if not on that host.", metavar="URL")
    ] = None,
    vhost: Annotated[str | None, _option("--vhost", help_text="The virtual host.", metavar="NAME")] = None,
    bus_file: Annotated[
        str | None, _option("--bus-file", help_text="The bus file, if not bus.toml here or above.", metavar="FILE")
    ] = None,
    debug: Annotated[bool, _option("--debug", help_text="Show where an error came from.")] = False,
) -> None:
    """Declare the flags; their values go to the invocation's GlobalFlags."""


@functools.cache
def parameters() -> tuple[Any, ...]:
    """Make the flags as parameters to append to a command: once, for all of them."""
    app = typer.Typer(add_completion=False)
    app.command()(_declaration)
    return tuple(typer.main.get_command(app).params)


def bus_file(ctx: typer.Context) -> BusFile:
    """Read the bus file, where no broker is asked.

    Raises:
        ConfigError: a mistake in it.
    """
    from busctl.busfile import load

    return load(ctx.obj.bus_path if isinstance(ctx.obj, GlobalFlags) else None)


def open_session(ctx: typer.Context) -> Session:
    """Open the session that the command line, the environment and the config file ask for.

    Raises:
        ConfigError: a setting that cannot be used.
    """
    assert isinstance(ctx.obj, GlobalFlags)
    settings = resolve(ctx.obj)
    if settings.sources.get("context") == RUNNING_DEMO:
        exits.note(f"nothing is configured: this is the running demo (context {settings.context})")
    return Session(settings, bus_file=ctx.obj.bus_path)
