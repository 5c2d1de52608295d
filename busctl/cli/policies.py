"""`busctl policies`: what is set for queues and exchanges by their names; set and cleared."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from busctl.cli import changing, confirm, flags, lists
from busctl.cli.groups import DEFAULT, ListGroup
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.blast import listed
from busctl.views.commands import command_line
from busctl.views.policies import POLICIES
from busctl_lib.errors import ConfigError, NotFound
from busctl_lib.pairs import object_of

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient, PolicyInfo

policies = typer.Typer(
    cls=ListGroup,
    add_completion=False,
    subcommand_metavar="[GLOB] | set | clear",
    help="List policies, or set and clear one.\n\n"
    "The list takes --where, --sort, --columns, --watch, --all-vhosts and -o, as `busctl queues` does.",
)


class ApplyTo(enum.StrEnum):
    """What a policy is for."""

    ALL = "all"
    QUEUES = "queues"
    EXCHANGES = "exchanges"
    CLASSIC = "classic_queues"
    QUORUM = "quorum_queues"
    STREAMS = "streams"


@policies.command(DEFAULT, hidden=True)
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="GLOB", help="A pattern, or the name of one policy.")] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List policies: which names they match, and what they set."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


_LISTING = lists.Listing(view=POLICIES, singular="policy", fetch=lambda api, vhost: api.policies(vhost))


@policies.command("set")
def set_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.")],
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A regular expression for names, such as '^orders'.")
    ],
    settings: Annotated[list[str], typer.Argument(metavar="KEY=TEXT", help="What it sets; KEY:=JSON for numbers.")],
    apply_to: Annotated[ApplyTo, typer.Option("--apply-to", help="What it is for.")] = ApplyTo.ALL,
    priority: Annotated[int, typer.Option("--priority", help="The highest that matches counts.")] = 0,
    yes: confirm.YesOption = False,
    form: changing.OutputOption = None,
) -> None:
    """Set a policy, or replace the one of that name."""
    definition = object_of(settings, "policies set: ")
    with flags.open_session(ctx) as session:
        api, vhost = session.management, session.vhost
        api.guard_change(f"setting policy {name!r}")
        before = _existing(api, vhost, name)
        hits = [("matches", _matching(api, vhost, pattern, apply_to)), ("sets", _plain(definition))]
        if before is not None:
            hits.append(("replaces", f"{before.pattern} {_plain(before.definition)}"))
        change = confirm.Change(
            does=f"set policy {name!r}",
            name=name,
            hits=hits,
            way_back=_again(before) if before is not None else command_line("policies", "clear", name),
        )
        confirm.allow(session.settings, change, yes=yes)
        plan = {"pattern": pattern, "definition": definition, "before": _as_plan(before)}
        with changing.operation(session, "policies set", name, form, done=f"policy {name} is set", plan=plan):
            api.put_policy(vhost, name, pattern, definition, apply_to=apply_to.value, priority=priority)


@policies.command("clear")
def clear(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.")],
    yes: confirm.YesOption = False,
    form: changing.OutputOption = None,
) -> None:
    """Clear a policy; what it set is gone at once from what it matched."""
    with flags.open_session(ctx) as session:
        api, vhost = session.management, session.vhost
        api.guard_change(f"clearing policy {name!r}")
        before = _existing(api, vhost, name)
        if before is None:
            hint = "`busctl policies` lists what there is"
            raise NotFound(f"no policy {name!r} in vhost {vhost!r}", hint=hint, code=404, text="Not Found")
        kind = ApplyTo(before.apply_to) if before.apply_to in set(ApplyTo) else ApplyTo.ALL
        hits = [
            ("matches", _matching(api, vhost, before.pattern or "", kind)),
            ("sets", f"{_plain(before.definition)}, which ends"),
        ]
        change = confirm.Change(does=f"clear policy {name!r}", name=name, hits=hits, way_back=_again(before))
        confirm.allow(session.settings, change, yes=yes)
        plan = {"before": _as_plan(before)}
        with changing.operation(session, "policies clear", name, form, done=f"policy {name} is cleared", plan=plan):
            api.delete_policy(vhost, name)


def _existing(api: ManagementClient, vhost: str, name: str) -> PolicyInfo | None:
    return next((info for info in api.policies(vhost) if info.name == name), None)


def _as_plan(info: PolicyInfo | None) -> Any:
    import msgspec

    return msgspec.to_builtins(info) if info is not None else None


def _pairs(definition: dict[str, Any] | None) -> list[str]:
    """What a policy sets, as it would be typed."""
    import json

    return [
        f"{key}={value}" if isinstance(value, str) else f"{key}:={json.dumps(value)}"
        for key, value in (definition or {}).items()
    ]


def _plain(definition: dict[str, Any] | None) -> str:
    return " ".join(_pairs(definition))


def _again(info: PolicyInfo) -> str:
    """The command that sets a policy as it is."""
    words = ["policies", "set", info.name, info.pattern or "", *_pairs(info.definition)]
    words += ["--apply-to", info.apply_to] if info.apply_to else []
    words += ["--priority", str(info.priority)] if info.priority else []
    return command_line(*words)


def _matching(api: ManagementClient, vhost: str, pattern: str, kind: ApplyTo) -> str:
    """Say what there is now that a policy would be for; the broker's own regular expressions are close to Python's."""
    try:
        matches = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the pattern {pattern!r} is not a regular expression: {error}") from None
    queues = [
        info.name
        for info in (api.queues(vhost) if kind is not ApplyTo.EXCHANGES else [])
        if matches.search(info.name)
        and (kind in (ApplyTo.ALL, ApplyTo.QUEUES) or kind.value.startswith(info.type or "?"))
    ]
    exchanges = [
        info.name
        for info in (api.exchanges(vhost) if kind in (ApplyTo.ALL, ApplyTo.EXCHANGES) else [])
        if info.name and not info.name.startswith("amq.") and matches.search(info.name)
    ]
    return f"queues {listed(queues)}; exchanges {listed(exchanges)}"
