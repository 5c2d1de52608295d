"""Definitions made to fit a broker: what a newer version does not take is left out and said, never lost silently.

Run on 3.10.8, 4.0.5 and 4.3.6. A broker answers some refusals with success: what it does not permit (a transient
queue, `x-queue-master-locator` on 4.3), and quorum queues that are not durable, delete themselves or have a name of
the server's, are just not there afterwards. So an import is compared with its file when it is done.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from busctl_lib.definitions.kinds import (
    Definitions,
    Entry,
    Remark,
    is_servers,
    policies_in,
    queue_type,
    remark,
    vhost_said,
)
from busctl_lib.errors import PreconditionFailed
from busctl_lib.management import ManagementClient
from busctl_lib.management.infos_cluster import release_of

_MIRRORING = "ha-"
_CLASSIC_TIMEOUT = "only quorum queues have it from RabbitMQ 4.3 on"
_LOCATOR, _TRANSIENT = "queue_master_locator", "transient_nonexcl_queues"
"""Deprecated features."""
_HASHES_MOST = 2
_Key = tuple[str | None, str]


class Target(NamedTuple):
    """What matters of the broker that is to take definitions."""

    release: tuple[int, ...]
    exchange_types: frozenset[str] = frozenset()
    """Empty: not known."""
    denied: frozenset[str] = frozenset()
    """Deprecated features that it does not permit."""
    default_types: Mapping[str | None, str] = {}
    """By vhost: the type of queues that name none, where it is not classic; None stands for the one vhost."""
    places: frozenset[tuple[str, str | None, str]] = frozenset()
    """(queue or exchange, vhost, name) of what is there already."""


class Fitted(NamedTuple):
    """Definitions as a broker takes them."""

    definitions: Definitions
    left_out: list[Remark]
    """What is left out of them because it means nothing there; the rest works without."""
    noted: list[Remark]
    """What becomes of queues that name no type."""
    refused: list[Remark]
    """What the file wants, and this broker does not have."""


def target_of(api: ManagementClient, vhost: str | None) -> Target:
    """Look at a broker that is to take definitions into one vhost, or (None) into the cluster. GET only."""
    overview = api.get_json("overview")
    infos = api.vhosts() if vhost is None else [api.vhost(vhost)]
    usual = (None, "undefined", "classic")
    name = (lambda found: found) if vhost is None else (lambda _: None)
    queues = ("queue", api.queues(vhost)), ("exchange", api.exchanges(vhost))
    return Target(
        release=release_of(overview.get("rabbitmq_version")) or (),
        exchange_types=frozenset(str(each["name"]) for each in overview.get("exchange_types") or ()),
        denied=frozenset(each.name for each in api.deprecated_features() or () if each.is_denied),
        default_types={
            name(info.name): str(info.default_queue_type) for info in infos if info.default_queue_type not in usual
        },
        places=frozenset((kind, name(info.vhost), info.name) for kind, found in queues for info in found),
    )


def fit(definitions: Mapping[str, Any], target: Target) -> Fitted:
    """Leave out what a broker does not take.

    Raises:
        PreconditionFailed: an exchange is of a type that the broker does not have: what leads through it would be lost.
    """
    made: Definitions = copy.deepcopy(dict(definitions))
    _check_types(made, target)
    left_out = [*_policies(made, target), *_server_named(made), *_arguments(made, target)]
    noted = list(_without_type(made, target))
    refused = [*_transient(made, target)]
    for note, meaningless in _bindings(made, target):
        (left_out if meaningless else refused).append(note)
    return Fitted(made, left_out, noted, refused)


def _check_types(made: Definitions, target: Target) -> None:
    for entry in made.get("exchanges") or ():
        if target.exchange_types and entry["type"] not in target.exchange_types:
            raise PreconditionFailed(
                f"exchange {entry['name']!r} is of type {entry['type']}, which this broker does not have;"
                " nothing was done",
                hint=f"enable the plug-in that brings it; there are: {', '.join(sorted(target.exchange_types))}",
                code=406,
                text="unknown exchange type",
            )


def _policies(made: Definitions, target: Target) -> Iterator[Remark]:
    emptied: list[int] = []
    for kind, entry, body in policies_in(made):
        gone = [key for key in body["definition"] if _gone_key(key, target)]
        if not gone:
            continue
        body["definition"] = {key: value for key, value in body["definition"].items() if key not in gone}
        rest = "" if body["definition"] else "; nothing else was in it"
        yield remark(kind, entry, f"{', '.join(gone)}, which this broker does not take{rest}")
        if not body["definition"]:
            emptied.append(id(entry))
    for kind in ("policies", "parameters"):
        if emptied and kind in made:
            made[kind] = [entry for entry in made[kind] if id(entry) not in emptied]


def _gone_key(key: str, target: Target) -> bool:
    if key.startswith(_MIRRORING):
        return target.release >= (4, 0)
    return key == "queue-master-locator" and _LOCATOR in target.denied


def _server_named(made: Definitions) -> Iterator[Remark]:
    for entry in made.get("queues") or ():
        if is_servers(str(entry["name"])):
            yield remark("queues", entry, "its name is the server's, and no broker takes it from a file")
    if "queues" in made:
        made["queues"] = [entry for entry in made["queues"] if not is_servers(str(entry["name"]))]


def _arguments(made: Definitions, target: Target) -> Iterator[Remark]:
    for entry in made.get("queues") or ():
        arguments = entry.setdefault("arguments", {})
        gone = {key: why for key, value in arguments.items() if (why := _gone_argument(key, value, entry, target))}
        if gone:
            entry["arguments"] = {key: value for key, value in arguments.items() if key not in gone}
            yield remark("queues", entry, "; ".join(f"{key}: {why}" for key, why in gone.items()))


def _without_type(made: Definitions, target: Target) -> Iterator[Remark]:
    """What a queue without a type becomes, in a file from before 4.0 a classic one: it was that there."""
    written_by = release_of(made.get("rabbitmq_version") or made.get("rabbit_version"))
    for entry in made.get("queues") or ():
        default = target.default_types.get(entry.get("vhost"))
        if default is None or "x-queue-type" in entry["arguments"]:
            continue
        if written_by is not None and written_by < (4, 0):
            entry["arguments"]["x-queue-type"] = "classic"
            yield remark("queues", entry, f"x-queue-type classic written out: else it would become a {default} queue")
        else:
            yield remark("queues", entry, f"it names no type, and becomes a {default} queue, as the vhost has it")


def _gone_argument(key: str, value: object, entry: Entry, target: Target) -> str | None:
    kind = queue_type(entry)
    if key == "x-queue-master-locator" and _LOCATOR in target.denied:
        return "this broker does not permit it"
    if target.release < (4, 3):
        return None
    if key == "x-queue-version" and value == 1 and kind == "classic":
        return "RabbitMQ 4.3 and newer know version 2 only"
    if key == "x-consumer-timeout" and kind in ("classic", "stream"):
        return _CLASSIC_TIMEOUT
    if key == "x-stream-filter-size-bytes" and kind in ("classic", "quorum"):
        return "it is for streams"
    return None


def _transient(made: Definitions, target: Target) -> Iterator[Remark]:
    if _TRANSIENT not in target.denied:
        return
    gone = [entry for entry in made.get("queues") or () if not entry.get("durable") and not entry.get("exclusive")]
    for entry in gone:
        yield remark("queues", entry, "it is transient, which this broker does not permit")
    if gone:
        made["queues"] = [entry for entry in made["queues"] if entry not in gone]


def _bindings(made: Definitions, target: Target) -> Iterator[tuple[Remark, bool]]:
    """What cannot be bound, each with whether that is of no consequence."""
    kinds = {(entry.get("vhost"), entry["name"]): entry["type"] for entry in made.get("exchanges") or ()}
    there = {("exchange", *key) for key in kinds} | target.places
    there |= {("queue", entry.get("vhost"), entry["name"]) for entry in made.get("queues") or ()}
    kept: list[Entry] = []
    for entry in made.get("bindings") or ():
        vhost = entry.get("vhost")
        ends = [("exchange", entry["source"]), (entry["destination_type"], entry["destination"])]
        gone = next((end for end in ends if not _is_there(end, vhost, there)), None)
        hashes = str(entry["routing_key"]).split(".").count("#")
        if gone is not None:
            yield remark("bindings", entry, f"there is no {gone[0]} {gone[1]!r}"), True
        elif hashes > _HASHES_MOST and kinds.get((vhost, entry["source"])) == "topic" and target.release >= (4, 3):
            yield remark("bindings", entry, f"RabbitMQ 4.3 takes at most {_HASHES_MOST} # in a key"), False
        else:
            kept.append(entry)
    if "bindings" in made:
        made["bindings"] = kept


def _is_there(end: tuple[str, str], vhost: str | None, there: set[tuple[str, str | None, str]]) -> bool:
    kind, name = end
    return (kind, vhost, name) in there or (kind == "exchange" and (not name or is_servers(name)))


def keep_vhosts(definitions: Definitions, live: Mapping[str, Any]) -> None:
    """Complete what a file does not say of a vhost by what the broker has: an import empties it otherwise.

    It is said twice: all versions read the metadata, and 4.3 the default queue type nowhere else.
    """
    known = {entry["name"]: vhost_said(entry) for entry in live.get("vhosts") or ()}
    for entry in definitions.get("vhosts") or ():
        said = {**known.get(entry["name"], {}), **vhost_said(entry)}
        del said["name"]
        entry |= {**said, "metadata": said}
