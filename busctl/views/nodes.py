"""Nodes: memory, disk, file descriptors, and what is wrong with each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from busctl.views import columns, formats
from busctl.views.view import Column, Tone, View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from busctl_lib.management.infos_cluster import NodeInfo


def problems(info: NodeInfo) -> list[str]:
    """Name what is wrong with a node; nothing is an empty list."""
    if info.running is False:
        return ["down"]
    found = [
        ("memory alarm", info.mem_alarm),
        ("disk alarm", info.disk_free_alarm),
        ("network partition", info.partitions),
        ("being drained", info.being_drained),
    ]
    return [word for word, there in found if there]


def versions(infos: Iterable[NodeInfo]) -> str | None:
    """Name who runs what where the nodes of a cluster run different versions; None where none is known to."""
    found = {info.name: info.rabbitmq_version for info in infos if info.rabbitmq_version}
    if len(set(found.values())) < 2:
        return None
    return formats.safe_text(", ".join(f"{name} {version}" for name, version in sorted(found.items())))


def state(info: NodeInfo) -> str:
    """Put the state of a node into words."""
    return ", ".join(problems(info)) or "running"


def _share(name: str, title: str, used: str, total: str) -> Column[NodeInfo]:
    return Column(
        name=name,
        title=title,
        value=lambda info: getattr(info, used),
        text=lambda info: formats.percent(getattr(info, used), getattr(info, total)),
        align="right",
    )


NODES: View[NodeInfo] = View(
    noun="nodes",
    sort="name",
    columns=(
        columns.text("name", "NAME"),
        Column(
            name="state",
            title="STATE",
            value=state,
            text=lambda info: ("✖ " if problems(info) else "") + state(info),
            tone=lambda info: Tone.BAD if problems(info) else Tone.GOOD,
        ),
        _share("memory", "MEM", "mem_used", "mem_limit"),
        columns.size("disk_free", "DISK FREE"),
        _share("fd", "FD", "fd_used", "fd_total"),
        _share("proc", "PROC", "proc_used", "proc_total"),
        Column(
            name="uptime",
            title="UP",
            value=lambda info: info.uptime,
            text=lambda info: formats.duration(info.uptime / 1000 if info.uptime is not None else None),
            align="right",
        ),
        columns.count("sockets_used", "SOCKETS", wide=True),
        columns.count("run_queue", "RUN QUEUE", wide=True),
        columns.count("processors", "CPUS", wide=True),
        columns.text("version", "VERSION", lambda info: info.rabbitmq_version, wide=True),
        columns.text("erlang", "ERLANG", lambda info: info.erlang_version, wide=True),
        columns.text("type", "TYPE", wide=True),
        columns.text("plugins", "PLUGINS", lambda info: ", ".join(info.enabled_plugins or ()) or None, wide=True),
    ),
)
