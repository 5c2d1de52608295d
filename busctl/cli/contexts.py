"""`busctl contexts`: brokers by name. Lists, adds, chooses, removes and tries them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec
import typer

from busctl import contexts as config_file
from busctl import passwords
from busctl.cli import exits, flags, output
from busctl.cli.lists import OutputOption
from busctl.config import address, info_of, preview, resolve, without_password
from busctl.views.contexts import CONTEXTS
from busctl.views.formats import safe_text
from busctl_lib.addresses import amqp_address, with_password
from busctl_lib.errors import ConfigError
from busctl_lib.tls import TlsFiles

if TYPE_CHECKING:
    from busctl.config import Settings

_WAYS = (
    "leave it out and be asked for it, or give it to --password-stdin, or name where it is: --password-env VAR, "
    "--password-command CMD, --password-keyring; --store-password takes it from the command line all the same"
)

contexts = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    help="List the brokers that have a name, and add, choose, remove or try one.",
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The context's name.")]


@contexts.callback()
def list_contexts(ctx: typer.Context, form: OutputOption = None) -> None:
    """List the brokers that have a name, running demos included."""
    if ctx.invoked_subcommand is not None:
        return
    path = config_file.config_path()
    known = config_file.load_with_demos(path)
    effective = _settings(ctx)
    current = effective.context if effective is not None else known.current
    infos = [
        info_of(name, context, current=name == current, previous=name == known.previous)
        for name, context in known.contexts.items()
    ]
    output.write_list(CONTEXTS, CONTEXTS.sorted(infos), form or output.Format.TABLE)
    if not infos and form in (None, output.Format.TABLE):
        exits.note(f"no contexts in {path}: `busctl contexts add NAME --amqp-url URL` makes one")


contexts.command("list", hidden=True)(list_contexts)


@contexts.command()
def add(
    ctx: typer.Context,
    name: NameArgument,
    production: Annotated[bool, typer.Option("--production", help="Want a name typed before a change.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse whatever changes the bus.")] = False,
    color: Annotated[str | None, typer.Option("--color", help="Of the console's state line.")] = None,
    tls_ca: Annotated[str | None, typer.Option("--tls-ca", metavar="PEM", help="The authority to trust.")] = None,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", metavar="PEM", help="Our certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="PEM", help="Its key.")] = None,
    tls_server_name: Annotated[
        str | None, typer.Option("--tls-server-name", metavar="NAME", help="In the broker's certificate.")
    ] = None,
    tls_verify: Annotated[bool, typer.Option("--tls-verify/--no-tls-verify", help="Check who answers.")] = True,
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VAR", help="The environment variable that holds it.")
    ] = None,
    password_command: Annotated[
        str | None, typer.Option("--password-command", metavar="CMD", help="What prints it, such as 'pass show mq'.")
    ] = None,
    password_keyring: Annotated[
        bool, typer.Option("--password-keyring", help="Keep it in the keyring of this machine.")
    ] = False,
    token_command: Annotated[
        str | None,
        typer.Option("--token-command", metavar="CMD", help="What prints an OAuth 2 access token, for both doors."),
    ] = None,
    auth_mechanism: Annotated[
        str | None,
        typer.Option("--auth-mechanism", metavar="external", help="AMQP by --tls-cert instead of a password."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from the first line of stdin.")
    ] = False,
    store_password: Annotated[
        bool, typer.Option("--store-password", help="Take it from --amqp-url into the file, seen by `ps` as it was.")
    ] = False,
) -> None:
    """Give a broker a name. Its address is --amqp-url; a user without a password there is asked for it."""
    typed = _typed_address(ctx, store_password)
    files = TlsFiles(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name, verify=tls_verify)
    files = files.under(Path.cwd())  # as typed here; the file stands elsewhere
    context = config_file.ContextConfig(
        amqp_url=typed.amqp_url,
        api_url=typed.api_url,
        vhost=typed.vhost,
        password_env=password_env,
        password_command=password_command,
        password_keyring=password_keyring,
        token_command=token_command,
        auth_mechanism=_mechanism(auth_mechanism),
        production=production,
        read_only=read_only,
        color=color,
        tls=files if files != TlsFiles() else None,
    )
    settings = preview(name, context)  # what cannot be used is told before anything is asked
    if settings.tls is not None:
        if settings.tls != settings.tls.under(Path.cwd()):
            raise ConfigError("a file in --amqp-url is not named from the root on", hint="write /folder/file.pem")
        settings.tls.context()
    where, path = address(context), config_file.config_path()
    config_file.check_free(path, name)
    _take_password(name, context, settings, from_stdin=password_stdin)
    config_file.add(path, name, context)
    then = f"`busctl contexts check {name}` tries it, `busctl contexts use {name}` makes it current"
    exits.note(f"context {name} ({where}) is in {path}; {then}")


def _mechanism(typed: str | None) -> Literal["plain", "external"] | None:
    if typed in (None, "plain", "external"):
        return cast(Literal["plain", "external"] | None, typed)
    raise ConfigError(f"--auth-mechanism must be plain or external, found {typed!r:.40}")


def _typed_address(ctx: typer.Context, store_password: bool) -> flags.GlobalFlags:
    """Give the flags of a new context's address, unless they hold a password that nobody said to take from there."""
    typed = ctx.obj
    assert isinstance(typed, flags.GlobalFlags)
    if typed.amqp_url is None:
        raise ConfigError("contexts add needs --amqp-url", hint="amqp://user@host:5672/vhost")
    if not store_password and any(_has_password(url) for url in (typed.amqp_url, typed.api_url)):
        raise ConfigError("a password on the command line can be read by every user of this machine", hint=_WAYS)
    return typed


@contexts.command()
def use(name: Annotated[str, typer.Argument(metavar="NAME", help='A context; "-" is the previous one.')]) -> None:
    """Make a context the one that is used when none is named."""
    chosen = config_file.use(config_file.config_path(), name)
    exits.note(f"context {chosen} is current now")


@contexts.command()
def remove(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without a question.")] = False
) -> None:
    """Take a context out of the config file; its broker is not touched."""
    path = config_file.config_path()
    context = config_file.existing(path, name)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("there is no terminal to ask at", hint="--yes removes it without a question")
        if not typer.confirm(
            f"Remove context {safe_text(name)} ({safe_text(info_of(name, context).address)})?", err=True
        ):
            exits.note("nothing was removed")
            raise typer.Exit(exits.ExitCode.GUARD)
    config_file.remove(path, name)
    exits.note(f"context {name} is removed")
    if context.password_keyring:
        try:
            passwords.keyring_backend().delete_password(passwords.KEYRING_SERVICE, name)
        except ConfigError as error:
            exits.note(f"its password is still in the keyring: {error}")


@contexts.command()
def check(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A context; else the one in effect.")] = None,
    form: OutputOption = None,
) -> None:
    """Try a context's AMQP and API: what works, who one is there, what one may do. Exit code 3 when neither works.

    Where the API does not tell the rights, they are tried by requests that change nothing; a right that is refused
    leaves a line in the broker's log.
    """
    assert isinstance(ctx.obj, flags.GlobalFlags)
    named = msgspec.structs.replace(ctx.obj, context=name)
    settings = resolve(named, context_from="argument NAME") if name else resolve(ctx.obj)
    from busctl.cli import contexts_check  # with all that it asks, which few commands need

    if not contexts_check.write(settings, form):
        raise typer.Exit(exits.ExitCode.NO_CONNECTION)


def _settings(ctx: typer.Context) -> Settings | None:
    """The settings in effect; None where they cannot be used: a list is what helps then."""
    try:
        return resolve(ctx.obj)
    except ConfigError:
        return None


def _has_password(url: str | None) -> bool:
    return url is not None and without_password(url) != url


def _take_password(name: str, context: config_file.ContextConfig, settings: Settings, *, from_stdin: bool) -> None:
    """Take a password that was given or is asked for to where it is kept: the keyring, or the file's address.

    Raises:
        ConfigError: it was given where it would not be used.
    """
    elsewhere = context.password_env or context.password_command or context.token_command
    amqp = amqp_address(context.amqp_url or "")
    needed = not elsewhere and not settings.external and amqp.password is None
    if from_stdin and not needed:
        raise ConfigError("--password-stdin, but the password comes from elsewhere", hint="give one of the two")
    keyring = passwords.keyring_backend() if context.password_keyring else None
    password = ""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise ConfigError("--password-stdin: stdin is empty")
        if not amqp.username:
            raise ConfigError("a password, but no user in --amqp-url", hint="amqp://user@host:5672/vhost")
    elif needed and amqp.username and sys.stdin.isatty():
        keeper = "the keyring" if keyring else "the config file"
        password = passwords.ask(
            f"Password of {safe_text(address(context))}, kept in {keeper} (empty: ask each time): "
        )
    if password and keyring is not None:
        keyring.set_password(passwords.KEYRING_SERVICE, name, password)
    elif password:
        context.amqp_url = with_password(context.amqp_url or "", password)
