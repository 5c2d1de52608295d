"""Definitions of a broker, compared: what a file has and the broker has not, and the other way round.

Two brokers' exports differ in what is noise here: versions, order, what one version adds (`explanation`, `metadata`),
defaults that one writes out and another leaves away.
Source: https://www.rabbitmq.com/docs/definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from busctl_lib.errors import ConfigError

Change = Literal["added", "removed", "changed"]
KINDS = (
    *("vhosts", "users", "permissions", "topic_permissions", "parameters", "global_parameters", "policies"),
    *("exchanges", "queues", "bindings"),
)
"""In the order in which a broker takes them."""
_KEYS: dict[str, tuple[str, ...]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "parameters": ("component", "name", "vhost"),
    "global_parameters": ("name",),
    "policies": ("name", "vhost"),
    "exchanges": ("name", "vhost"),
    "queues": ("name", "vhost"),
    "bindings": ("source", "destination_type", "destination", "routing_key", "arguments", "vhost"),
}
_OF_CLUSTER = ("vhosts", "users", "permissions", "topic_permissions", "global_parameters")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "vhosts": {"description": "", "tags": [], "limits": []},
    "users": {"limits": {}},
    "policies": {"priority": 0, "apply-to": "all"},
    "exchanges": {"durable": True, "auto_delete": False, "internal": False, "arguments": {}},
    "queues": {"durable": True, "auto_delete": False, "arguments": {}},
    "bindings": {"arguments": {}},
}
_NEEDED = {"exchanges": ("type",), "policies": ("pattern", "definition")}
"""What a broker wants to be told beside the key, and has no usual value."""
_COMPLETED = ("exchanges", "queues", "bindings", "policies")
"""Of these an import is refused when a field with a usual value is left out."""
_NOISE = {
    "vhosts": ("metadata", "default_queue_type", "limits"),
    "queues": ("type",),
    "global_parameters": (),
}
"""Said again elsewhere, or only by some versions."""
_OWN_PARAMETERS = ("internal_cluster_id", "cluster_tags", "cluster_name")
"""Global parameters that name a cluster, and differ between any two."""
STAYS = ("exchanges", "queues", "vhosts")
"""Kinds of which an import leaves alone what is there, whatever the file says."""


class Difference(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One object that a file and a broker do not agree about."""

    change: Change
    """As an import would see it: added is in the file alone, removed on the broker alone."""
    kind: str
    """In the singular: queue, exchange, binding ..."""
    name: str
    vhost: str | None = None
    live: dict[str, Any] | None = None
    """As it is on the broker."""
    file: dict[str, Any] | None = None
    """As the file has it."""

    @property
    def fields(self) -> list[str]:
        """The fields that differ, where both have it."""
        live, file = self.live or {}, self.file or {}
        return sorted(name for name in live.keys() | file.keys() if not _same(live.get(name), file.get(name)))

    @property
    def import_changes(self) -> bool:
        """Whether an import of the file would change the broker here."""
        return self.change == "added" or (self.change == "changed" and f"{self.kind}s" not in STAYS)


def parse(text: bytes, where: str) -> dict[str, Any]:
    """Read a file of definitions; what a broker wants to be told and has a usual value is added with it.

    Raises:
        ConfigError: it is not one, with the place in it.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where} holds no definitions: expected a JSON object")
    if not any(kind in found for kind in KINDS):
        raise ConfigError(f"{where} holds no definitions", hint=f"expected at least one of: {', '.join(KINDS)}")
    for kind in KINDS:
        for index, entry in enumerate(_entries(found, kind, where)):
            needed = (*_KEYS[kind], *_NEEDED.get(kind, ()))
            missing = [key for key in needed if key not in ("vhost", "arguments") and key not in entry]
            if missing:
                raise ConfigError(f"{where}: {kind}[{index}] has no {missing[0]}")
            if kind in _COMPLETED:
                entry |= {key: value for key, value in _DEFAULTS[kind].items() if key not in entry}
    return found


def _entries(found: Mapping[str, Any], kind: str, where: str) -> list[dict[str, Any]]:
    entries = found.get(kind, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: {kind} is not a list of objects")
    return entries


def is_of_cluster(definitions: Mapping[str, Any]) -> bool:
    """Whether these are of several vhosts: an export of the whole cluster, or a part of one."""
    said = definitions.get("rabbitmq_definition_format")
    if said is not None:
        return bool(said == "cluster")
    if any(definitions.get(kind) for kind in _OF_CLUSTER):
        return True
    # An export of one vhost names it as well, in its policies and parameters alone.
    named = {entry.get("vhost") for kind in ("policies", "parameters") for entry in definitions.get(kind) or ()}
    declared = (entry for kind in ("exchanges", "queues", "bindings") for entry in definitions.get(kind) or ())
    return len(named) > 1 or any("vhost" in entry for entry in declared)


def of_vhost(definitions: Mapping[str, Any], vhost: str) -> dict[str, Any]:
    """The part that is about one vhost, without its name: what can be imported into any."""
    of_cluster = is_of_cluster(definitions)
    made: dict[str, Any] = {key: value for key, value in definitions.items() if key.endswith("_version")}
    for kind in (kind for kind in KINDS if kind in definitions and kind not in _OF_CLUSTER):
        mine = [entry for entry in definitions[kind] or () if not of_cluster or entry.get("vhost") == vhost]
        made[kind] = [{key: value for key, value in entry.items() if key != "vhost"} for entry in mine]
    return made


def diff(live: Mapping[str, Any], file: Mapping[str, Any]) -> list[Difference]:
    """Compare what a broker has with what a file says, both of one vhost or both of the cluster.

    Kinds that the file does not mention are not compared.
    """
    found = []
    for kind in KINDS:
        if kind in file:
            found += list(_diff_kind(kind, live.get(kind) or [], file[kind] or []))
    return found


def _diff_kind(kind: str, live: list[dict[str, Any]], file: list[dict[str, Any]]) -> Iterator[Difference]:
    here, there = _by_key(kind, live), _by_key(kind, file)
    for key in sorted(here.keys() | there.keys()):
        before, after = here.get(key), there.get(key)
        if before is not None and after is not None and _same(before, after):
            continue
        entry = after or before or {}
        yield Difference(
            change="added" if before is None else "removed" if after is None else "changed",
            kind="policy" if kind == "policies" else kind[:-1],
            name=_name(kind, entry),
            vhost=entry.get("vhost"),
            live=before,
            file=after,
        )


def _by_key(kind: str, entries: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    normal: Callable[[dict[str, Any]], dict[str, Any]] = lambda entry: {  # noqa: E731
        key: value
        for key, value in (_DEFAULTS.get(kind, {}) | entry).items()
        if key not in _NOISE.get(kind, ()) and not key.startswith("$")
    }
    found = {}
    for entry in map(normal, entries):
        if kind == "global_parameters" and entry["name"] in _OWN_PARAMETERS:
            continue
        if kind == "queues":  # 4.x writes the default type out
            arguments = entry["arguments"]
            entry["arguments"] = {
                key: value for key, value in arguments.items() if (key, value) != ("x-queue-type", "classic")
            }
        found[tuple(_text(entry.get(part)) for part in _KEYS[kind])] = entry
    return found


def _name(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == "bindings":
        return f"{entry['source']} -> {entry['destination']} {entry['routing_key']!r}"
    if kind in ("permissions", "topic_permissions"):
        return str(entry["user"])
    return str(entry["name"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


def _same(left: Any, right: Any) -> bool:
    return msgspec.json.encode(left, order="sorted") == msgspec.json.encode(right, order="sorted")
