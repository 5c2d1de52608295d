"""The kinds of things in definitions: what tells one from another, what they are called, what is usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

Entry = dict[str, Any]
Definitions = dict[str, Any]
KINDS = (
    *("vhosts", "users", "permissions", "topic_permissions", "parameters", "global_parameters", "policies"),
    *("exchanges", "queues", "bindings"),
)
"""In the order in which a broker takes them."""
KEYS: dict[str, tuple[str, ...]] = {
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
OF_CLUSTER = ("vhosts", "users", "permissions", "topic_permissions", "global_parameters")
DEFAULTS: dict[str, Entry] = {
    "users": {"limits": {}},
    "policies": {"priority": 0, "apply-to": "all"},
    "exchanges": {"durable": True, "auto_delete": False, "internal": False, "arguments": {}},
    "queues": {"durable": True, "auto_delete": False, "arguments": {}},
    "bindings": {"arguments": {}},
}
OPERATOR_POLICY = "operator_policy"
"""The component of the parameters that are operator policies."""


class Remark(NamedTuple):
    """What is to be said of one object: that it is left out, say, or changed."""

    kind: str
    """In the singular."""
    name: str
    vhost: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.text}"


def remark(kind: str, entry: Mapping[str, Any], text: str) -> Remark:
    """Say something of one entry."""
    return Remark(singular(kind), name_of(kind, entry), entry.get("vhost"), text)


def singular(kind: str) -> str:
    """What one of a kind is called."""
    return "policy" if kind == "policies" else kind.removesuffix("s").replace("_", " ")


def name_of(kind: str, entry: Mapping[str, Any]) -> str:
    """What one entry is called."""
    if kind == "bindings":
        arguments = f" {text_of(entry['arguments'])}" if entry.get("arguments") else ""
        return f"{entry['source']} -> {entry['destination']} {entry['routing_key']!r}{arguments}"
    if kind == "permissions":
        return str(entry["user"])
    if kind == "topic_permissions":
        return f"{entry['user']} at exchange {entry['exchange'] or '(default)'}"
    if kind == "parameters":
        return f"{entry['component']} {entry['name']}"
    return str(entry["name"])


def text_of(value: Any) -> str:
    """A value as a text: one for equal values."""
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


def policies_in(definitions: Mapping[str, Any]) -> list[tuple[str, Entry, Entry]]:
    """(kind, entry, body) of each policy, those of operators among them: their body stands in a parameter's value."""
    own = [("policies", entry, entry) for entry in definitions.get("policies") or ()]
    theirs = [
        ("parameters", entry, entry["value"])
        for entry in definitions.get("parameters") or ()
        if entry.get("component") == OPERATOR_POLICY and isinstance(entry.get("value"), dict)
    ]
    return [found for found in own + theirs if isinstance(found[2].get("definition"), dict)]


def is_servers(name: str) -> bool:
    """Whether a name is the server's: an import of such a queue or exchange is answered with success, and ignored."""
    return name.startswith("amq.")


def queue_type(entry: Mapping[str, Any]) -> str:
    """The type of a queue; the broker goes by its argument alone."""
    return str((entry.get("arguments") or {}).get("x-queue-type") or "classic")


def with_limits(definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The limits of vhosts among the parameters, from where a broker takes them; some exports have them twice."""
    parameters = definitions.get("parameters")
    told = {entry.get("vhost") for entry in parameters or () if entry.get("component") == "vhost-limits"}
    more = [
        {"component": "vhost-limits", "name": "limits", "vhost": entry["name"], "value": entry["limits"]}
        for entry in definitions.get("vhosts") or ()
        if entry.get("limits") and entry["name"] not in told and parameters is not None
    ]
    return {**definitions, "parameters": [*(parameters or ()), *more]} if more else definitions


def vhost_said(entry: Mapping[str, Any]) -> Entry:
    """What is said of a vhost, in one form: 4.0 says it twice, 4.3 in its metadata, 3.10 not what is usual."""
    metadata = entry.get("metadata")
    said = {**(metadata if isinstance(metadata, dict) else {}), **entry}
    made = {key: value for key, value in said.items() if key not in ("metadata", "limits")}
    if isinstance(tags := made.get("tags"), str):
        made["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()]
    if "tags" in made:
        made["tags"] = sorted(made["tags"] or [])
    if "default_queue_type" in made and made["default_queue_type"] in (None, "undefined"):
        made["default_queue_type"] = "classic"
    if not made.get("protected_from_deletion"):
        made.pop("protected_from_deletion", None)
    return made
