"""`busctl close-connection`: cut one client off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import changing, confirm, flags
from busctl.cli.changing import OutputOption
from busctl.cli.confirm import YesOption
from busctl.views import formats
from busctl_lib.errors import BusError, ConfigError, NotFound

if TYPE_CHECKING:
    from busctl_lib.management import ConnectionInfo, ManagementClient


def close_connection(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or the one that its client gave it.")],
    reason: Annotated[str, typer.Option("--reason", help="What the client and the broker's log are told.")] = (
        "closed by an operator with busctl"
    ),
    yes: YesOption = False,
    form: OutputOption = None,
) -> None:
    """Close a client's connection; most clients connect again at once."""
    with flags.open_session(ctx) as session:
        api = session.management
        api.guard_change(f"closing connection {name!r}")
        info = _connection(api, name)
        change = confirm.Change(
            does=f"close the connection {info.name!r}",
            name=name,
            hits=_hits(api, info),
            way_back="none is needed where the client connects again by itself",
        )
        confirm.allow(session.settings, change, yes=yes)
        done = f"connection {info.name} is closed"
        with changing.operation(session, "close-connection", info.name, form, done=done, vhost=info.vhost):
            api.close_connection(info.name, reason)


def _connection(api: ManagementClient, name: str) -> ConnectionInfo:
    """The one connection that is meant."""
    infos = api.connections()
    found = [info for info in infos if info.name == name] or [info for info in infos if info.user_provided_name == name]
    if not found:
        raise NotFound(f"no connection {name!r}", hint="`busctl connections` lists them", code=404, text="Not Found")
    if len(found) > 1:
        names = ", ".join(info.name for info in found)
        raise ConfigError(f"{len(found)} connections are called {name!r}", hint=f"choose one: {names}")
    return found[0]


def _hits(api: ManagementClient, info: ConnectionInfo) -> list[tuple[str, str]]:
    client = info.user_provided_name or formats.UNKNOWN
    hits = [
        ("client", f"{client}, user {info.user or formats.UNKNOWN}, vhost {info.vhost or formats.UNKNOWN}"),
        ("channels", formats.count(info.channels)),
    ]
    try:
        channels = [
            each
            for each in api.channels(info.vhost)
            if each.connection_details is not None and each.connection_details.name == info.name
        ]
    except BusError:  # of others only with the monitoring tag
        return hits
    held = sum(each.messages_unacknowledged or 0 for each in channels)
    consumers = sum(each.consumer_count or 0 for each in channels)
    return [*hits, ("consumers", f"{consumers:,}"), ("messages", f"{held:,} unacknowledged go back to their queues")]
