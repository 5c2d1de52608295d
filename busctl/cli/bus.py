"""`busctl bus`: the bus file: write one from a live broker, check the one there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from busctl.busfile import FILE_NAME
from busctl.cli import exits, flags, output
from busctl.views.formats import safe_text
from busctl_lib.errors import ConfigError

bus = typer.Typer(add_completion=False, no_args_is_help=True, help="The bus file, bus.toml: write one, check one.")


@bus.command()
def init(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to write it; - is standard output.", show_default=True)
    ] = FILE_NAME,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Read a live broker and write a bus file to begin with: methods, filters, groups, with comments."""
    path = Path(file)
    if file != "-" and path.exists() and not force:
        raise ConfigError(f"{path} is there already", hint="--force replaces it, - prints to standard output")
    from busctl.busfile import example

    with flags.open_session(ctx) as session:
        api, vhost = session.management, session.vhost
        overview = api.overview()
        text = example.write(
            api.queues(vhost),
            api.exchanges(vhost),
            api.bindings(vhost),
            vhost=vhost,
            about=f"{overview.cluster_name or api.url} (RabbitMQ {overview.rabbitmq_version})",
        )
    if file == "-":
        output.write_bytes(text.encode())  # TOML is UTF-8 everywhere
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    exits.note(f"{path} is written; `busctl bus check` reads it")


@bus.command()
def check(ctx: typer.Context) -> None:
    """Read the bus file with every schema it names, and say what is in it, or where the mistake is."""
    found = flags.bus_file(ctx)
    if found.path is None:
        raise ConfigError("there is no bus.toml here or above", hint="`busctl bus init` writes one")
    methods = found.methods()
    for name in found.schema_names:
        found.schema(name)
    output.write_line(safe_text(f"{found.path}: no mistake"))
    for label, names in (
        ("methods", methods if found.has_methods else {}),
        ("schemas", found.schema_names),
        ("filters", found.filters),
        ("decoders", found.decoders),
        ("groups", found.groups),
    ):
        if names:
            output.write_line(f"{label:<8}  {', '.join(names)}")
