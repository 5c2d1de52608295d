"""`busctl keys`: the keys that message bodies are encrypted with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from busctl import privatefile
from busctl.cli import exits, output
from busctl.keyfile import COMMAND_VARIABLE, key_path, load_keys
from busctl_lib.codecs import Keyring, new_key
from busctl_lib.errors import ConfigError

keys = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Keep the keys that message bodies are encrypted with."
)


@keys.command("list")
def list_keys() -> None:
    """List the ids of the keys held, the one that encrypts with a star; never the keys themselves."""
    held = load_keys()
    if held is None:
        exits.note(f"no keys in {key_path()}: `busctl keys generate` makes one")
        return
    for key_id in held.ids:
        output.write_line(f"{key_id} *" if key_id == held.current else key_id)


@keys.command()
def generate(
    key_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The new key's id; k1, k2 and so on unless given.")
    ] = None,
    to_stdout: Annotated[
        bool, typer.Option("--stdout", help="Print a key file with the new key alone, and store nothing.")
    ] = False,
) -> None:
    """Make a key and encrypt with it from now on; the keys that were there still decrypt.

    The key file is only for its owner (mode 0600). Give it to every service that reads, then to those that write.
    """
    if to_stdout:
        output.write(Keyring({key_id or "k1": new_key()}).to_text())
        return
    if os.environ.get(COMMAND_VARIABLE):
        raise ConfigError(
            f"keys come from {COMMAND_VARIABLE} here, which only reads", hint="--stdout prints a key to store there"
        )
    path = key_path()
    held = Keyring.from_file(path) if path.exists() else None
    name = key_id or _next_id(held)
    added = held.with_key(name, new_key()) if held is not None else Keyring({name: new_key()})
    _store(path, added.to_text())
    exits.note(f"key {name} is in {path} and encrypts from now on")


def _next_id(held: Keyring | None) -> str:
    taken = held.ids if held is not None else []
    return next(name for number in range(1, len(taken) + 2) if (name := f"k{number}") not in taken)


def _store(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        privatefile.write(path, text.encode())
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be written: {error.strerror}") from None
