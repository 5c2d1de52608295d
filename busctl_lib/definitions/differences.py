"""Definitions compared: what a file has and the broker has not, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from busctl_lib.definitions.kinds import (
    DEFAULTS,
    KEYS,
    KINDS,
    Entry,
    is_servers,
    name_of,
    singular,
    text_of,
    vhost_said,
    with_limits,
)

Change = Literal["added", "removed", "changed"]
_OWN_PARAMETERS = ("internal_cluster_id", "cluster_tags", "cluster_name")
"""Global parameters that name a cluster, and differ between any two."""
_HASH = "password_hash"
_USUAL_VHOST: Entry = {"description": "", "tags": [], "default_queue_type": "classic"}
STAYS = ("exchange", "queue")
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
        return self.change == "added" or (self.change == "changed" and self.kind not in STAYS)


def diff(live: Mapping[str, Any], file: Mapping[str, Any]) -> list[Difference]:
    """Compare what a broker has with what a file says, both of one vhost or both of the cluster.

    Kinds that the file does not mention are not compared, nor what it does not say of a vhost.
    """
    live, file = with_limits(live), with_limits(file)
    found = []
    for kind in KINDS:
        if kind in file:
            found += list(_diff_kind(kind, live.get(kind) or [], file[kind] or []))
    return found


def _diff_kind(kind: str, live: list[Entry], file: list[Entry]) -> Iterator[Difference]:
    here, there = _by_key(kind, live), _by_key(kind, file)
    for key in sorted(here.keys() | there.keys()):
        before, after = here.get(key), there.get(key)
        if before is not None and after is not None and kind == "vhosts":
            before = {name: value for name, value in (_USUAL_VHOST | before).items() if name in after}
        if before is not None and after is not None and _same(before, after):
            continue
        entry = after or before or {}
        before, after = _without_hashes(before, after)
        yield Difference(
            change="added" if before is None else "removed" if after is None else "changed",
            kind=singular(kind),
            name=name_of(kind, entry),
            vhost=entry.get("vhost"),
            live=before,
            file=after,
        )


def _without_hashes(before: Entry | None, after: Entry | None) -> tuple[Entry | None, Entry | None]:
    """That the hash of a password differs is told, and not what it is."""
    hashes = [entry.get(_HASH) if entry else None for entry in (before, after)]
    masks = ("***", "***" if hashes[0] == hashes[1] else "*** (another)")
    shown = [
        {**entry, _HASH: mask} if entry and _HASH in entry else entry
        for entry, mask in zip((before, after), masks, strict=True)
    ]
    return shown[0], shown[1]


def _by_key(kind: str, entries: list[Entry]) -> dict[tuple[str, ...], Entry]:
    normal: Callable[[Entry], Entry] = _NORMAL.get(kind, dict)
    found = {}
    for entry in entries:
        if _is_own(kind, entry):
            continue
        said = {key: value for key, value in entry.items() if not key.startswith("$")}
        made = normal(DEFAULTS.get(kind, {}) | said)
        found[tuple(text_of(made.get(part)) for part in KEYS[kind])] = made
    return found


def _is_own(kind: str, entry: Entry) -> bool:
    """Whether it is a broker's own, which no other one takes over."""
    if kind == "global_parameters":
        return entry["name"] in _OWN_PARAMETERS
    if kind == "bindings":
        return entry.get("destination_type") == "queue" and is_servers(str(entry.get("destination")))
    return kind in ("queues", "exchanges") and is_servers(str(entry["name"]))


# --- one form for what versions write differently


def _user(entry: Entry) -> Entry:
    tags = entry.get("tags") or []
    listed = [tag.strip() for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else tags
    return {**entry, "tags": sorted(map(str, listed)), "limits": entry.get("limits") or {}}


def _queue(entry: Entry) -> Entry:
    """From 4.0 on the type is written out, among the arguments and beside them; the broker goes by the former."""
    arguments = entry.get("arguments") or {}
    kept = {key: value for key, value in arguments.items() if (key, value) != ("x-queue-type", "classic")}
    return {**{key: value for key, value in entry.items() if key != "type"}, "arguments": kept}


_NORMAL: dict[str, Callable[[Entry], Entry]] = {"vhosts": vhost_said, "users": _user, "queues": _queue}


def _same(left: Any, right: Any) -> bool:
    return msgspec.json.encode(left, order="sorted") == msgspec.json.encode(right, order="sorted")
