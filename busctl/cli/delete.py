"""`busctl delete`: take a queue, an exchange, a binding or a virtual host away, after showing what hangs on it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import changing, confirm, flags
from busctl.cli.changing import OutputOption
from busctl.cli.confirm import YesOption
from busctl.views.commands import command_line
from busctl.views.formats import counted
from busctl_lib.errors import ApiError, ConfigError, NotFound, PreconditionFailed

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.blast import QueueBlast
    from busctl_lib.management import BindingInfo

delete = typer.Typer(
    add_completion=False, no_args_is_help=False, help="Delete a queue, an exchange, a binding or a virtual host."
)
IfUnusedOption = Annotated[bool, typer.Option("--if-unused", help="Only where nobody uses it.")]
FromOption = Annotated[str, typer.Option("-x", "--exchange", metavar="NAME", help="The exchange it leads from.")]


@delete.command("queue")
def delete_queue(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.")],
    if_unused: IfUnusedOption = False,
    if_empty: Annotated[bool, typer.Option("--if-empty", help="Only where no message waits in it.")] = False,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Delete a queue with its messages and bindings."""
    from busctl.views import blast as words

    with flags.open_session(ctx) as session:
        session.broker.guard_change(f"deleting queue {name!r}")
        session.broker.connect()
        found = _queue_blast(session, name)
        if (if_unused or if_empty) and found.type in ("quorum", "stream"):
            raise ConfigError(
                f"{name!r} is a {found.type} queue: the broker checks --if-unused and --if-empty of classic ones only"
            )
        way_back = None if found.type == "stream" else changing.trash(found)
        change = confirm.Change(
            does=f"delete queue {name!r}", name=name, hits=words.delete_queue(found), way_back=way_back
        )
        confirm.allow(session.settings, change, yes=yes)
        plan, emptied = changing.definition(session, name), changing.Emptied()

        def done() -> str:
            return f"queue {name} is deleted, with {emptied.text('')}"

        with changing.operation(session, "delete queue", name, form, done=done, plan=plan) as made:
            if not (if_unused or if_empty):
                emptied = changing.empty(session, name, made, found, purge=False)
            went = session.broker.delete_queue(name, if_unused=if_unused, if_empty=if_empty)
            emptied = emptied._replace(dropped=emptied.dropped + went)
            made.moved = made.planned = sum(emptied)


def _queue_blast(session: Session, name: str) -> QueueBlast:
    """What hangs on a queue; where the API does not answer, what AMQP knows."""
    from busctl_lib import blast

    try:
        return blast.of_queue(session.management, session.vhost, name, deleting=True)
    except NotFound as error:
        error.hint = session.hint_for_queue(name)
        raise
    except ApiError:
        answer = session.broker.declare_queue(name, passive=True)
        return blast.QueueBlast(queue=name, ready=answer.message_count)


@delete.command("exchange")
def delete_exchange(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="EXCHANGE", help="The exchange.")],
    if_unused: IfUnusedOption = False,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Delete an exchange with its bindings."""
    from busctl.views import blast as words
    from busctl_lib import blast

    if not name or name.startswith("amq."):
        raise ConfigError(f"exchange {name!r} is the broker's own: it cannot be deleted")
    with flags.open_session(ctx) as session:
        session.broker.guard_change(f"deleting exchange {name!r}")
        try:
            found = blast.of_exchange(session.management, session.vhost, name)
        except NotFound as error:
            error.hint = session.hint_for_exchange(name)
            raise
        change = confirm.Change(does=f"delete exchange {name!r}", name=name, hits=words.delete_exchange(found))
        confirm.allow(session.settings, change, yes=yes)
        bindings = counted(len(found.outgoing) + len(found.incoming), "binding")
        done = f"exchange {name} is deleted, with {bindings}"
        with changing.operation(session, "delete exchange", name, form, done=done):
            session.broker.delete_exchange(name, if_unused=if_unused)


@delete.command("binding")
def delete_binding(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="QUEUE", help="The queue, or with --to-exchange the exchange, it feeds.")
    ],
    source: FromOption,
    key: Annotated[str | None, typer.Option("-k", "--key", help="Its key, where there are several.")] = None,
    to_exchange: Annotated[bool, typer.Option("--to-exchange", help="It feeds an exchange, not a queue.")] = False,
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Delete one binding of a queue or an exchange."""
    with flags.open_session(ctx) as session:
        session.broker.guard_change(f"unbinding {name!r}")
        session.management.guard_change(f"unbinding {name!r}")
        binding = _binding(session, name, source, key, "exchange" if to_exchange else "queue")
        does = f"unbind {binding.destination_type} {name!r} from exchange {source!r}, key {binding.routing_key!r}"
        hits = [("loses", f"{name} gets nothing more by this key from {source}")]
        to = ["--to-exchange"] * to_exchange
        back = command_line("declare", "binding", name, "-x", source, "-k", binding.routing_key, *to)
        change = confirm.Change(does=does, name=name, hits=hits, way_back=None if binding.arguments else back)
        confirm.allow(session.settings, change, yes=yes)
        done = f"{name} is no longer bound to {source} by key {binding.routing_key!r}"
        with changing.operation(session, "delete binding", name, form, done=done, target=source):
            session.management.delete_binding(binding)


def _binding(session: Session, name: str, source: str, key: str | None, kind: str) -> BindingInfo:
    """The one binding that is meant."""
    among = [
        info
        for info in session.management.bindings(session.vhost)
        if (info.source, info.destination, info.destination_type) == (source, name, kind)
    ]
    found = [info for info in among if key is None or info.routing_key == key]
    if not source or not found:
        keys = ", ".join(sorted(repr(info.routing_key) for info in among if info.source))
        raise NotFound(
            f"{kind} {name!r} is not bound to exchange {source!r}{f' by key {key!r}' if key is not None else ''}",
            hint=f"its keys there: {keys}" if keys else "`busctl bindings` lists what leads where",
            code=404,
            text="Not Found",
        )
    if len(found) > 1:
        keys = ", ".join(sorted(repr(info.routing_key) for info in found))
        hint = f"choose one with -k: {keys}" if key is None else "they differ in arguments: the console shows them"
        raise ConfigError(f"{kind} {name!r} has {len(found)} bindings to exchange {source!r}", hint=hint)
    return found[0]


@delete.command("vhost")
def delete_vhost(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="VHOST", help="The virtual host.")],
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Delete a virtual host with everything in it."""
    from busctl.views import blast as words
    from busctl_lib import blast

    with flags.open_session(ctx) as session:
        api = session.management
        api.guard_change(f"deleting vhost {name!r}")
        if name not in {info.name for info in api.vhosts()}:
            raise NotFound(f"no vhost {name!r} that this user may see", hint="`busctl vhosts` lists them", code=404)
        found = blast.of_vhost(api, name)
        change = confirm.Change(
            does=f"delete vhost {name!r} with everything in it",
            name=name,
            hits=words.delete_vhost(found),
            refused=_protected(name) if found.protected else None,
        )
        confirm.allow(session.settings, change, yes=yes)
        done = f"vhost {name} is deleted"
        with changing.operation(session, "delete vhost", name, form, done=done, vhost=name):
            api.delete_vhost(name)


def _protected(name: str) -> PreconditionFailed:
    text = f"vhost {name!r} is protected from deletion: the broker would refuse it"
    hint = f"rabbitmqctl disable_vhost_deletion_protection {shlex.quote(name)} ends the protection"
    return PreconditionFailed(text, hint=hint, code=412, text="protected from deletion")
