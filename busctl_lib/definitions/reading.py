"""Files of definitions: read and checked, and the part of one virtual host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from busctl_lib.definitions.kinds import DEFAULTS, KEYS, KINDS, OF_CLUSTER, Definitions, Entry, with_limits
from busctl_lib.errors import ConfigError

_NEEDED = {"exchanges": ("type",), "policies": ("pattern", "definition")}
"""What a broker wants to be told beside the key, and has no usual value."""
_COMPLETED = ("exchanges", "queues", "bindings", "policies")
"""Of these an import is refused when a field with a usual value is left out."""
_TABLES = ("arguments", "definition")
_OF_ONE = ("description", "metadata", "default_queue_type", "tags")
"""What an export of one virtual host says of it beside its objects, from 4.0 on. No import takes it."""


def parse(text: bytes, where: str) -> Definitions:
    """Read a file of definitions; what a broker wants to be told and has a usual value is added with it.

    Raises:
        ConfigError: it is not one, with the place in it.
    """
    try:
        found = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where} holds no definitions: expected a JSON object")
    if not any(kind in found for kind in KINDS):
        raise ConfigError(f"{where} holds no definitions", hint=f"expected at least one of: {', '.join(KINDS)}")
    for kind in KINDS:
        for index, entry in enumerate(_entries(found, kind, where)):
            _check(kind, entry, f"{where}: {kind}[{index}]")
            if kind in _COMPLETED:
                entry |= {key: value for key, value in DEFAULTS[kind].items() if key not in entry}
    return found


def _entries(found: Mapping[str, Any], kind: str, where: str) -> list[Entry]:
    entries = found.get(kind, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: {kind} is not a list of objects")
    return entries


def _check(kind: str, entry: Entry, place: str) -> None:
    needed = (*KEYS[kind], *_NEEDED.get(kind, ()))
    missing = [key for key in needed if key not in ("vhost", "arguments") and key not in entry]
    if missing:
        raise ConfigError(f"{place} has no {missing[0]}")
    for key in KEYS[kind]:
        if key != "arguments" and not isinstance(entry.get(key, ""), str):
            raise ConfigError(f"{place}: its {key} is no text")
    for key in _TABLES:
        if not isinstance(entry.get(key, {}), dict):
            raise ConfigError(f"{place}: its {key} is no JSON object")


def is_of_cluster(definitions: Mapping[str, Any]) -> bool:
    """Whether these are of several vhosts: an export of the whole cluster, or a part of one."""
    said = definitions.get("rabbitmq_definition_format")
    if said is not None:
        return bool(said == "cluster")
    if any(definitions.get(kind) for kind in OF_CLUSTER):
        return True
    # An export of one vhost names it as well, in its policies and parameters alone.
    named = {entry.get("vhost") for kind in ("policies", "parameters") for entry in definitions.get(kind) or ()}
    declared = (entry for kind in ("exchanges", "queues", "bindings") for entry in definitions.get(kind) or ())
    return len(named) > 1 or any("vhost" in entry for entry in declared)


def vhosts_of(definitions: Mapping[str, Any]) -> list[str]:
    """The virtual hosts that definitions of a cluster name anywhere."""
    named = {str(entry["name"]) for entry in definitions.get("vhosts") or ()}
    for kind in (kind for kind in KINDS if "vhost" in KEYS[kind]):
        named |= {str(entry["vhost"]) for entry in definitions.get(kind) or () if entry.get("vhost") is not None}
    return sorted(named)


def of_vhost(definitions: Mapping[str, Any], vhost: str) -> Definitions:
    """The part that is about one vhost, without its name: what can be imported into any.

    What is said of the vhost itself stands in `vhosts`, for a comparison: an import into one leaves it alone.
    """
    of_cluster = is_of_cluster(definitions)
    definitions = with_limits(definitions)
    made: Definitions = {key: value for key, value in definitions.items() if key.endswith("_version")}
    if of_cluster:
        about = [entry for entry in definitions.get("vhosts") or () if entry["name"] == vhost]
    else:
        about = [{key: definitions[key] for key in _OF_ONE if key in definitions}]
    if any(about):
        said = [{key: value for key, value in entry.items() if key != "limits"} for entry in about]
        made["vhosts"] = [{**entry, "name": vhost} for entry in said]
    for kind in (kind for kind in KINDS if kind in definitions and kind not in OF_CLUSTER):
        mine = [entry for entry in definitions[kind] or () if not of_cluster or entry.get("vhost") == vhost]
        made[kind] = [{key: value for key, value in entry.items() if key != "vhost"} for entry in mine]
    return made
