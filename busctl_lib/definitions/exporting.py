"""What a broker has declared, so that a broker of the same or a newer version takes all of it.

A broker's own export is not always that. Run: 4.3.6 leaves exclusive queues out and not their bindings, and internal
exchanges out and not theirs, which an import refuses; 3.10.8 leaves out what is said of a vhost, and an import of a
vhost without it empties that; all export queues with names of the server's, and ignore them in an import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from busctl_lib.definitions.kinds import Definitions, Entry, Remark, is_servers, remark
from busctl_lib.management import ExchangeInfo, ManagementClient, QueueInfo, VhostInfo

_OWN_TYPE = "x-federation-upstream"
"""Of exchanges that a plug-in makes for itself."""
_Key = tuple[str | None, str]


class Export(NamedTuple):
    """Definitions, and what they do not have."""

    definitions: Definitions
    left_out: list[Remark]


def export(api: ManagementClient, vhost: str | None) -> Export:
    """Export the definitions of a virtual host, or of the cluster with users and password hashes (None).

    Needs the administrator tag.

    Raises:
        ApiError, VhostNotFound: see ManagementClient.
    """
    found = api.definitions(vhost)
    queues = api.queues(vhost)
    _complete_exchanges(found, api.exchanges(vhost), vhost)
    if vhost is None:
        known = {info.name: info for info in api.vhosts()}
        for entry in found.get("vhosts") or ():
            if entry["name"] in known:
                _complete_vhost(entry, known[entry["name"]])
    else:
        _complete_vhost(found, api.vhost(vhost))
    exclusive = {_key_of(info.vhost, info.name, vhost) for info in queues if info.exclusive}
    found["queues"] = [entry for entry in found.get("queues") or () if not is_servers(str(entry["name"]))]
    left_out = list(_not_exported(found, queues, vhost))
    left_out += _drop_dangling(found, exclusive)
    return Export(found, left_out)


def _key_of(vhost: str, name: str, exported: str | None) -> _Key:
    """How an export tells one object from another: one of a single vhost does not name it."""
    return (None if exported is not None else vhost, name)


def _key(entry: Entry) -> _Key:
    return (entry.get("vhost"), str(entry["name"]))


def _complete_exchanges(found: Definitions, infos: list[ExchangeInfo], vhost: str | None) -> None:
    there = {_key(entry) for entry in found.get("exchanges") or ()}
    for info in infos:
        if not info.internal or info.type == _OWN_TYPE or is_servers(info.name):
            continue
        if _key_of(info.vhost, info.name, vhost) not in there:
            entry: Entry = {
                "name": info.name,
                "type": info.type,
                "durable": info.durable,
                "auto_delete": info.auto_delete,
                "internal": True,
                "arguments": info.arguments or {},
            }
            found.setdefault("exchanges", []).append(entry if vhost is not None else {**entry, "vhost": info.vhost})


def _complete_vhost(entry: Entry, info: VhostInfo) -> None:
    """Say of a vhost what it is, where the broker did not."""
    if entry.keys() & {"metadata", "description"}:
        return
    entry |= {"description": info.description or "", "tags": info.tags or []}
    if info.default_queue_type not in (None, "undefined"):
        entry["default_queue_type"] = info.default_queue_type


def _not_exported(found: Definitions, infos: list[QueueInfo], vhost: str | None) -> Iterator[Remark]:
    there = {_key(entry) for entry in found.get("queues") or ()}
    for info in infos:
        if _key_of(info.vhost, info.name, vhost) not in there:
            why = "the broker does not export it"
            if info.exclusive:
                why = "exclusive, it lives with its connection"
            elif is_servers(info.name):
                why = "its name is the server's, and no broker takes it from a file"
            yield Remark("queue", info.name, info.vhost if vhost is None else None, why)


def _drop_dangling(found: Definitions, exclusive: set[_Key]) -> list[Remark]:
    """Leave out bindings whose ends are not there; an import would be refused at the first."""
    queues = {_key(entry) for entry in found.get("queues") or ()}
    exchanges = {_key(entry) for entry in found.get("exchanges") or ()}
    kept: list[Entry] = []
    left_out: list[Remark] = []
    for entry in found.get("bindings") or ():
        vhost = entry.get("vhost")
        ends = [("exchange", entry["source"]), (entry["destination_type"], entry["destination"])]
        gone = [end for end in ends if not _is_there(end, vhost, queues, exchanges)]
        if not gone:
            kept.append(entry)
            continue
        kind, name = gone[0]
        is_exclusive = kind == "queue" and (vhost, name) in exclusive
        why = "its queue is exclusive" if is_exclusive else f"there is no {kind} {name!r} to go with it"
        left_out.append(remark("bindings", entry, why))
    if left_out:
        found["bindings"] = kept
    return left_out


def _is_there(end: tuple[str, str], vhost: str | None, queues: set[_Key], exchanges: set[_Key]) -> bool:
    kind, name = end
    if kind == "queue":
        return (vhost, name) in queues
    return not name or is_servers(name) or (vhost, name) in exchanges
