"""`busctl contexts`: brokers by name. Lists, adds, chooses, removes and tries them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl import contexts as config_file
from busctl import passwords
from busctl.cli import exits, flags, output
from busctl.cli.lists import OutputOption
from busctl.config import DEFAULT, address, info_of, resolve, without_password
from busctl.session import Session
from busctl.views.contexts import CONTEXTS
from busctl.views.formats import safe_text
from busctl.views.view import Tone
from busctl_lib.address_parameters import parameters_of
from busctl_lib.addresses import amqp_address, api_address, with_password
from busctl_lib.errors import ApiError, BusError, ConfigError
from busctl_lib.tls import TlsFiles

if TYPE_CHECKING:
    from busctl.config import Settings
    from busctl_lib.capabilities import Feature

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
    if files != TlsFiles():
        files.context()  # a file that cannot be used is told now
    context = config_file.ContextConfig(
        amqp_url=typed.amqp_url,
        api_url=typed.api_url,
        vhost=typed.vhost,
        password_env=password_env,
        password_command=password_command,
        password_keyring=password_keyring,
        production=production,
        read_only=read_only,
        color=color,
        tls=files if files != TlsFiles() else None,
    )
    where = _checked(context)
    path = config_file.config_path()
    config_file.check_free(path, name)
    _take_password(name, context, where, from_stdin=password_stdin)
    config_file.add(path, name, context)
    then = f"`busctl contexts check {name}` tries it, `busctl contexts use {name}` makes it current"
    exits.note(f"context {name} ({where}) is in {path}; {then}")


def _checked(context: config_file.ContextConfig) -> str:
    """Read the addresses before anything is asked, and show where the context will be."""
    amqp = amqp_address(context.amqp_url or "")
    parameters = parameters_of(amqp)
    if context.api_url is not None:
        api_address(context.api_url)
    if parameters.tls is not None:
        if context.tls is not None:
            raise ConfigError("TLS is described twice", hint="by parameters of --amqp-url, or by --tls-...")
        if parameters.tls != parameters.tls.under(Path.cwd()):
            raise ConfigError("a file in --amqp-url is not named from the root on", hint="write /folder/file.pem")
        parameters.tls.context()
    return address(context)


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


class Side(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What came of trying one of a broker's two doors."""

    works: bool
    version: str | None = None
    user: str | None = None
    tags: list[str] | None = None
    features: list[Feature] | None = None
    """What can be done there, as far as that side knows."""
    error: str | None = None


@contexts.command()
def check(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A context; else the one in effect.")] = None,
    form: OutputOption = None,
) -> None:
    """Try a context's AMQP and API: what works, who one is there, what is missing. Exit code 3 when neither works."""
    assert isinstance(ctx.obj, flags.GlobalFlags)
    named = msgspec.structs.replace(ctx.obj, context=name)
    settings = resolve(named, context_from="argument NAME") if name else resolve(ctx.obj)
    with Session(settings) as session:
        amqp, api = _try_amqp(session), _try_api(session)
    _write_check(settings, amqp, api, form)
    if not amqp.works and not api.works:
        raise typer.Exit(exits.ExitCode.NO_CONNECTION)


def _write_check(settings: Settings, amqp: Side, api: Side, form: output.Format | None) -> None:
    explained, missing = settings.explain(), _missing(amqp, api)
    if settings.tls is not None and not settings.tls.verify:
        missing.append("safety: who answers is not verified (tls.verify = false)")
    if form in (output.Format.JSON, output.Format.JSONL):
        values = [{"name": key, "value": value, "source": source} for key, value, source in explained]
        told = {"amqp": amqp, "api": api, "missing": missing, "settings": values, "parameters": settings.parameters}
        output.write_value(told, form)
        return
    lines = [(key, safe_text(f"{value}  ({source})")) for key, value, source in explained if source != DEFAULT]
    lines += [("parameter", safe_text(f"{each.name}={each.value}: {each.effect}")) for each in settings.parameters]
    lines += [("amqp", _shown(amqp)), ("api", _shown(api)), *(("missing", safe_text(text)) for text in missing)]
    lines += [("less", safe_text(text)) for text in _degraded(api)]
    lay_out = "{}\t{}\n" if form is output.Format.TSV else "{:<10} {}\n"
    output.write("".join(lay_out.format(key, text) for key, text in lines))


def _try_amqp(session: Session) -> Side:
    try:
        return Side(works=True, version=session.broker.server_version)
    except ConfigError:
        raise
    except BusError as error:
        return Side(works=False, error=str(error))


def _try_api(session: Session) -> Side:
    try:
        found = session.capabilities
    except ApiError as error:
        return Side(works=False, error=str(error))
    return Side(works=True, version=found.version, user=found.user, tags=found.tags, features=found.features)


def _missing(amqp: Side, api: Side) -> list[str]:
    """What this user cannot do there, and why."""
    told = []
    if not amqp.works:
        told.append("publish, tail and rpc: AMQP does not work")
    if not api.works:
        return [*told, "overview, lists and the firehose: the API does not work"]
    return told + [str(each) for each in api.features or () if each.state == "missing" and each.cause == "tag"]


def _degraded(api: Side) -> list[str]:
    """What works less well there, or not at all, whoever asks."""
    lacking = [each for each in api.features or () if each.state != "available"]
    return [str(each) for each in lacking if each.state == "degraded" or each.cause != "tag"]


def _shown(side: Side) -> str:
    if not side.works:
        return output.paint(f"fails: {safe_text(side.error or '')}", Tone.BAD)
    who = f", user {side.user}, tags {' '.join(side.tags or ()) or 'none'}" if side.user else ""
    version = f"RabbitMQ {side.version}" if side.version else "version not told"
    return output.paint("works", Tone.GOOD) + safe_text(f": {version}{who}")


def _settings(ctx: typer.Context) -> Settings | None:
    """The settings in effect; None where they cannot be used: a list is what helps then."""
    try:
        return resolve(ctx.obj)
    except ConfigError:
        return None


def _has_password(url: str | None) -> bool:
    return url is not None and without_password(url) != url


def _take_password(name: str, context: config_file.ContextConfig, where: str, *, from_stdin: bool) -> None:
    """Take a password that was given or is asked for to where it is kept: the keyring, or the file's address.

    Raises:
        ConfigError: it was given where it would not be used.
    """
    elsewhere = context.password_env or context.password_command
    needed = not elsewhere and not _has_password(context.amqp_url)
    if from_stdin and not needed:
        raise ConfigError("--password-stdin, but the password comes from elsewhere", hint="give one of the two")
    keyring = passwords.keyring_backend() if context.password_keyring else None
    has_user = bool(amqp_address(context.amqp_url or "").username)
    password = ""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise ConfigError("--password-stdin: stdin is empty")
        if not has_user:
            raise ConfigError("a password, but no user in --amqp-url", hint="amqp://user@host:5672/vhost")
    elif needed and has_user and sys.stdin.isatty():
        keeper = "the keyring" if keyring else "the config file"
        password = passwords.ask(f"Password of {safe_text(where)}, kept in {keeper} (empty: ask each time): ")
    if password and keyring is not None:
        keyring.set_password(passwords.KEYRING_SERVICE, name, password)
    elif password:
        context.amqp_url = with_password(context.amqp_url or "", password)
