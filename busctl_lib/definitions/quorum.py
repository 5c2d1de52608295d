"""Definitions rewritten so that classic queues become quorum queues, each change said.

What a quorum queue refuses was run on 3.10.8, 4.0.5 and 4.3.6: it is durable, lives until somebody deletes it, and has
a name of its own; `x-queue-mode`, `x-queue-version`, `x-queue-master-locator`, `x-max-priority` are invalid arguments
(406). It takes `x-overflow` `reject-publish-dlx`, and drops its oldest messages all the same. A policy that has one
key which a quorum queue cannot have is not applied to it at all.
Source: https://www.rabbitmq.com/docs/migrate-mcq-to-qq.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from busctl_lib.definitions.kinds import (
    Definitions,
    Entry,
    Remark,
    is_servers,
    policies_in,
    queue_type,
    remark,
    text_of,
)

_REFUSED = {
    "x-max-priority": "a quorum queue has the priorities of its messages by itself, from RabbitMQ 4.0 on",
    "x-queue-mode": "a quorum queue keeps its messages on disk",
    "x-queue-version": "it is for classic queues",
    "x-queue-master-locator": "it is for classic queues",
}
_DLX = "reject-publish-dlx"
_DROPS = "full, a quorum queue drops its oldest messages instead of refusing new ones"
_POLICY_KEYS = ("queue-mode", "queue-master-locator")
"""And all that begin with ha-."""
_OF_QUEUES = ("all", "queues", "classic_queues")


def for_quorum(definitions: Mapping[str, Any]) -> tuple[Definitions, list[Remark]]:
    """Make quorum queues of the classic ones; the definitions, and what was changed or stays as it is, and why."""
    made: Definitions = copy.deepcopy(dict(definitions))
    changed: list[Entry] = []
    remarks: list[Remark] = []
    for entry in made.get("queues") or ():
        if queue_type(entry) != "classic":
            continue
        stays = _why_not(entry)
        if stays is None:
            changed.append(entry)
        remarks.append(remark("queues", entry, f"stays a classic queue: {stays}" if stays else _rewrite(entry)))
    remarks += _policies(made, changed)
    return made, remarks


def _why_not(entry: Entry) -> str | None:
    if entry.get("exclusive"):
        return "it is exclusive"
    if entry.get("auto_delete"):
        return "it deletes itself, which no quorum queue does"
    if is_servers(str(entry["name"])):
        return "its name is the server's, which no quorum queue has"
    return None


def _rewrite(entry: Entry) -> str:
    """Make a quorum queue of one; what becomes of it."""
    arguments = dict(entry.get("arguments") or {})
    parts = ["becomes a quorum queue"]
    for key in [key for key in arguments if key in _REFUSED]:
        parts.append(f"{key} {text_of(arguments.pop(key))} left out ({_REFUSED[key]})")
    if arguments.get("x-overflow") == _DLX:
        del arguments["x-overflow"]
        parts.append(f"x-overflow {_DLX} left out ({_DROPS})")
    if not entry.get("durable", True):
        parts.append("durable from now on")
    entry["durable"] = True
    entry["arguments"] = {**arguments, "x-queue-type": "quorum"}
    if "type" in entry:
        entry["type"] = "quorum"
    return "; ".join(parts)


def _policies(made: Definitions, changed: list[Entry]) -> Iterator[Remark]:
    emptied: list[int] = []
    for kind, entry, body in policies_in(made):
        if body.get("apply-to", "all") not in _OF_QUEUES:
            continue
        parts = _without_keys(body)
        if not body["definition"]:
            emptied.append(id(entry))
            parts.append("nothing else was in it, so it is left out")
        elif body.get("apply-to") == "classic_queues" and _matches(body, entry.get("vhost"), changed):
            body["apply-to"] = "queues"
            parts.append("applies to queues of every type from now on")
        if parts:
            yield remark(kind, entry, "; ".join(parts))
    for kind in ("policies", "parameters"):
        if emptied and kind in made:
            made[kind] = [entry for entry in made[kind] if id(entry) not in emptied]


def _without_keys(body: Entry) -> list[str]:
    definition: dict[str, Any] = body["definition"]
    gone = [key for key in definition if key.startswith("ha-") or key in _POLICY_KEYS]
    parts = [f"{', '.join(gone)} left out (a policy with it applies to no quorum queue)"] if gone else []
    if definition.get("overflow") == _DLX:
        gone.append("overflow")
        parts.append(f"overflow {_DLX} left out ({_DROPS})")
    body["definition"] = {key: value for key, value in definition.items() if key not in gone}
    return parts


def _matches(body: Entry, vhost: str | None, queues: list[Entry]) -> bool:
    try:
        pattern = re.compile(str(body.get("pattern") or ""))
    except re.error:  # in the broker's dialect: it may match any
        return bool(queues)
    return any(entry.get("vhost") == vhost and pattern.search(str(entry["name"])) for entry in queues)
