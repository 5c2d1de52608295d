"""`busctl overview`: the state of the whole bus on one screen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from busctl.cli import flags, output
from busctl.cli.lists import OutputOption, WatchOption, show
from busctl.views import overview as view
from busctl.views.formats import safe_text
from busctl.views.nodes import NODES
from busctl_lib.errors import ApiError, ApiForbidden

if TYPE_CHECKING:
    from busctl_lib.management import (
        ConnectionInfo,
        DeprecatedFeature,
        HealthCheck,
        ManagementClient,
        NodeInfo,
        OverviewInfo,
    )

_ATTENTION_MAX = 10
_CONNECTIONS_MAX = 1000
_OWN_GOOD_S = 10.0


def overview(ctx: typer.Context, form: OutputOption = None, watch: WatchOption = None) -> None:
    """Show version, nodes, alarms, health, totals and rates, and which queues need attention."""
    with flags.open_session(ctx) as session:
        api, own = session.management, _Own()

        def once() -> None:
            info, nodes = api.overview(), _nodes(api)
            own.read(api)
            if form in (None, output.Format.TABLE):
                _write_screen(api, info, nodes, own, session.vhost, clear=watch is not None)
            elif form is output.Format.TSV:
                rows = [(fact.label, fact.text) for fact in _facts(info, nodes, own)]
                output.write("".join("\t".join(map(output.tsv_text, row)) + "\n" for row in rows))
            else:
                answer: dict[str, Any] = msgspec.to_builtins(info)
                if nodes is not None:
                    answer["nodes"] = msgspec.to_builtins(nodes)
                answer["health_checks"] = msgspec.to_builtins(own.checks)
                if own.deprecated is not None:
                    answer["deprecated_features"] = msgspec.to_builtins(own.deprecated)
                output.write_value(answer, form)

        show(once, watch)


class _Own:
    """What the broker says of itself; with --watch it is asked anew only now and then."""

    def __init__(self) -> None:
        self.checks: list[HealthCheck] = []
        self.deprecated: list[DeprecatedFeature] | None = None
        self.why = ""
        """Why it is not known what is deprecated."""
        self._due = 0.0

    def read(self, api: ManagementClient) -> None:
        if time.monotonic() >= self._due:
            self.checks = api.health()
            try:
                self.deprecated, self.why = api.deprecated_features(used=True), ""
            except ApiError as error:
                self.deprecated, self.why = None, str(error)
            self._due = time.monotonic() + _OWN_GOOD_S


def _facts(info: OverviewInfo, nodes: list[NodeInfo] | None, own: _Own) -> list[view.Fact]:
    return [*view.facts(info, nodes), view.health(own.checks), view.deprecated(own.deprecated, own.why)]


def _nodes(api: ManagementClient) -> list[NodeInfo] | None:
    try:
        return api.nodes()
    except ApiForbidden:  # the rest of the overview needs no monitoring tag
        return None


def _held_back(api: ManagementClient, info: OverviewInfo) -> list[ConnectionInfo]:
    """Connections, where they are few enough to ask for them without hurting the broker."""
    if ((info.object_totals.connections if info.object_totals else None) or 0) > _CONNECTIONS_MAX:
        return []
    return api.connections(columns=("name", "user", "state", "user_provided_name"))


def _write_screen(
    api: ManagementClient, info: OverviewInfo, nodes: list[NodeInfo] | None, own: _Own, vhost: str, *, clear: bool
) -> None:
    queues = api.queues_counted(vhost, info) if info.is_large else api.queues_with_rates(vhost)
    lines = [f"{fact.label:<10} {output.paint(fact.text, fact.tone)}" for fact in _facts(info, nodes, own)]
    if nodes:
        lines += ["", output.table(NODES.select(), NODES.sorted(nodes)).rstrip("\n")]
    troubled = [*view.of_checks(own.checks), *view.attention(queues, nodes, _held_back(api, info))]
    lines += ["", f"needs attention (queues: vhost {safe_text(vhost)}):" if troubled else "nothing needs attention"]
    for item in troubled[:_ATTENTION_MAX]:
        lines.append(f"  {output.paint(item.mark, item.tone)} {item.name}  {item.text}")
    if len(troubled) > _ATTENTION_MAX:
        lines.append(f"  and {len(troubled) - _ATTENTION_MAX} more")
    if info.is_large:
        lines.append("whether queues grow is not looked at with so many: `busctl queues --sort -in` does")
    if clear:
        output.clear_screen()
    output.write("\n".join(lines) + "\n")
