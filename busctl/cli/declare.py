"""`busctl declare`: make a queue, an exchange, a binding or a virtual host."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import changing, confirm, flags
from busctl.cli.changing import ArgumentOption, OutputOption
from busctl.cli.confirm import YesOption
from busctl_lib.errors import ApiError, ConfigError, NotFound
from busctl_lib.pairs import object_of

if TYPE_CHECKING:
    from busctl.session import Session

declare = typer.Typer(add_completion=False, help="Declare a queue, an exchange, a binding or a virtual host.")


class QueueType(enum.StrEnum):
    """The queue types of the broker itself."""

    CLASSIC = "classic"
    QUORUM = "quorum"
    STREAM = "stream"


AutoDeleteOption = Annotated[
    bool, typer.Option("--auto-delete", help="It vanishes with the last that uses it, once somebody did.")
]


@declare.command("queue")
def declare_queue(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.")],
    type_: Annotated[
        QueueType | None, typer.Option("--type", help="Its type; else the virtual host's default.")
    ] = None,
    dead_letter_to: Annotated[
        str | None, typer.Option("--dead-letter-to", metavar="QUEUE", help="The queue that gets its dead letters.")
    ] = None,
    auto_delete: AutoDeleteOption = False,
    arguments: ArgumentOption = None,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Declare a durable queue; one that is there already with the same settings is fine."""
    given = object_of(arguments or (), "-a ")
    if type_ is not None:
        given["x-queue-type"] = type_.value
    if dead_letter_to is not None:
        given |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_letter_to}
    if not name or name.startswith("amq."):
        raise ConfigError(f"{name!r} cannot be the name of a queue", hint="names that begin with amq. are the broker's")
    with flags.open_session(ctx) as session:
        change = confirm.Change(does=f"declare queue {name!r}", name=name, destructive=False)
        confirm.allow(session.settings, change, yes=yes)
        session.broker.connect()
        done = f"queue {name} is there"
        with changing.operation(session, "declare queue", name, form, done=done, plan={"arguments": given}):
            session.broker.declare_queue(name, auto_delete=auto_delete, arguments=given)


@declare.command("exchange")
def declare_exchange(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="EXCHANGE", help="The exchange.")],
    type_: Annotated[str, typer.Option("--type", help="direct, fanout, topic, headers, or a plug-in's.")] = "direct",
    alternate: Annotated[
        str | None, typer.Option("--alternate", metavar="EXCHANGE", help="Who gets what it cannot route.")
    ] = None,
    auto_delete: AutoDeleteOption = False,
    internal: Annotated[bool, typer.Option("--internal", help="Only other exchanges may publish to it.")] = False,
    arguments: ArgumentOption = None,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Declare a durable exchange; one that is there already with the same settings is fine."""
    given = object_of(arguments or (), "-a ")
    if alternate is not None:
        given["alternate-exchange"] = alternate
    with flags.open_session(ctx) as session:
        change = confirm.Change(does=f"declare exchange {name!r}", name=name, destructive=False)
        confirm.allow(session.settings, change, yes=yes)
        session.broker.connect()
        _check_type(session, type_)
        done = f"exchange {name} is there"
        with changing.operation(session, "declare exchange", name, form, done=done, plan={"arguments": given}):
            session.broker.declare_exchange(name, type_, auto_delete=auto_delete, internal=internal, arguments=given)


def _check_type(session: Session, wanted: str) -> None:
    """Say what types there are; 3.10 would close the connection over one that it does not know."""
    from busctl_lib.schemas import nearest

    try:
        types = [str(each["name"]) for each in session.management.get_json("overview").get("exchange_types", [])]
    except ApiError:
        return
    if types and wanted not in types:
        meant = nearest(wanted, types)
        hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(types)}"
        raise ConfigError(f"the broker has no exchange type {wanted!r}", hint=hint)


@declare.command("binding")
def declare_binding(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="QUEUE", help="The queue, or with --to-exchange the exchange, to feed.")
    ],
    source: Annotated[str, typer.Option("-x", "--exchange", metavar="NAME", help="The exchange to feed it from.")],
    key: Annotated[str, typer.Option("-k", "--key", help="The routing key, or of a topic exchange the pattern.")] = "",
    to_exchange: Annotated[bool, typer.Option("--to-exchange", help="Feed an exchange, not a queue.")] = False,
    arguments: ArgumentOption = None,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Bind a queue or an exchange to an exchange."""
    given = object_of(arguments or (), "-a ")
    with flags.open_session(ctx) as session:
        does = f"bind {name!r} to exchange {source!r} by key {key!r}"
        confirm.allow(session.settings, confirm.Change(does=does, name=name, destructive=False), yes=yes)
        session.broker.connect()
        bind = session.broker.bind_exchange if to_exchange else session.broker.bind_queue
        done = f"{name} is bound to {source} by key {key!r}"
        with changing.operation(session, "declare binding", name, form, done=done, target=source):
            try:
                bind(name, source, key, given)
            except NotFound as error:
                absent = source if f"'{source}'" in str(error) else name
                look = session.hint_for_exchange if "no exchange" in str(error) else session.hint_for_queue
                error.hint = look(absent)
                raise


@declare.command("vhost")
def declare_vhost(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="VHOST", help="The virtual host.")],
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    default_type: Annotated[
        QueueType | None, typer.Option("--default-queue-type", help="Of queues that name none.")
    ] = None,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Make a virtual host; nobody has permissions in it yet."""
    with flags.open_session(ctx) as session:
        change = confirm.Change(does=f"declare vhost {name!r}", name=name, destructive=False)
        confirm.allow(session.settings, change, yes=yes)
        with changing.operation(session, "declare vhost", name, form, done=f"vhost {name} is there", vhost=name):
            kind = default_type.value if default_type is not None else None
            session.management.put_vhost(name, description=description, default_queue_type=kind)
