"""The changes that the management API makes: what AMQP has no verb for, or not one that is exact enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from busctl_lib.errors import ApiError, BrokerRefused, NotFound, PreconditionFailed, VhostNotFound
from busctl_lib.management.infos import BindingInfo
from busctl_lib.management.infos_cluster import VhostInfo
from busctl_lib.management.reading import Reading
from busctl_lib.management.transport import segment

_OF_CLUSTER = ("users", "vhosts", "permissions", "topic_permissions", "global_parameters")
WHOLE_CLUSTER_S = 60.0
"""An import or export of everything may take the broker this long."""


class Changes(Reading):
    """The part of a ManagementClient that changes the broker.

    Every method raises GuardRefused when the client is read-only, and when a proxy on the way changes names.
    """

    def close_connection(self, name: str, reason: str) -> None:
        """Close a client connection; the client is told the reason, its unacknowledged messages are given back.

        Raises:
            NotFound: there is none of that name.
        """
        header = reason.encode("ascii", "backslashreplace").decode()
        self._change(
            "DELETE", f"connections/{segment(name)}", None, f"connection {name!r}", headers={"X-Reason": header}
        )

    def put_policy(
        self,
        vhost: str,
        name: str,
        pattern: str,
        definition: Mapping[str, Any],
        *,
        apply_to: str = "all",
        priority: int = 0,
    ) -> None:
        """Set a policy, or replace the one of that name. Needs the policymaker tag.

        Effect: queues and exchanges whose names match the pattern, and that no policy of a higher priority has, take it
        at once.
        Source: https://www.rabbitmq.com/docs/parameters#policies.

        Raises:
            PreconditionFailed: the broker does not accept the definition; its text says what.
        """
        body = {"pattern": pattern, "definition": definition, "apply-to": apply_to, "priority": priority}
        self._change("PUT", f"policies/{segment(vhost)}/{segment(name)}", body, f"vhost {vhost!r}", vhost)

    def delete_policy(self, vhost: str, name: str) -> None:
        """Clear a policy; what it set is gone at once from what it matched. Raises NotFound."""
        self._change("DELETE", f"policies/{segment(vhost)}/{segment(name)}", None, f"policy {name!r}", vhost)

    def put_vhost(self, name: str, *, description: str | None = None, default_queue_type: str | None = None) -> None:
        """Make a virtual host; one that is there keeps what is not given. Needs the administrator tag."""
        given = {"description": description, "default_queue_type": default_queue_type}
        self._put_vhost(name, {key: value for key, value in given.items() if value is not None})

    def set_tracing(self, vhost: str, on: bool) -> None:
        """Switch the firehose of a vhost. Needs the administrator tag. Raises VhostNotFound.

        Effect: the vhost's tracing flag and nothing else.
        Source: https://www.rabbitmq.com/docs/firehose.
        """
        self._put_vhost(vhost, {"tracing": on}, self._vhost(vhost))

    def _put_vhost(self, name: str, given: Mapping[str, object], before: VhostInfo | None = None) -> None:
        """Send all that a vhost is along with what changes: a PUT empties what it does not name.

        Run: description and tags on 3.10.8, 4.0.5 and 4.3.6, the default queue type on 4.3.6. The protection from
        deletion stays.
        """
        if before is None:
            with contextlib.suppress(VhostNotFound):
                before = self._vhost(name)
        body: dict[str, object] = {}
        if before is not None:
            kept = {"description": before.description, "tags": before.tags, "tracing": before.tracing}
            if before.default_queue_type != "undefined":  # up to 3.13, where none was set
                kept["default_queue_type"] = before.default_queue_type
            body = {key: value for key, value in kept.items() if value is not None}
        self._change("PUT", f"vhosts/{segment(name)}", {**body, **given}, f"vhost {name!r}")

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with everything in it. Needs the administrator tag.

        Raises:
            NotFound: there is none of that name.
            PreconditionFailed: it is protected from deletion.
        """
        self._change("DELETE", f"vhosts/{segment(name)}", None, f"vhost {name!r}")

    def delete_binding(self, binding: BindingInfo) -> None:
        """Delete exactly this binding, told from its like by arguments. Raises NotFound."""
        kind = "q" if binding.destination_type == "queue" else "e"
        ends = f"e/{segment(binding.source)}/{kind}/{segment(binding.destination)}"
        path = f"bindings/{segment(binding.vhost)}/{ends}/{segment(binding.properties_key or '~')}"
        self._change("DELETE", path, None, f"binding of {binding.destination!r} to {binding.source!r}", binding.vhost)

    def definitions(self, vhost: str | None = None) -> dict[str, Any]:
        """Export the definitions of a virtual host, or (administrators only) of the cluster with users and permissions.

        Password hashes are part of the latter.
        Source: https://www.rabbitmq.com/docs/definitions.
        """
        path = "definitions" if vhost is None else f"definitions/{segment(vhost)}"
        try:
            found = self._ask(path, dict[str, Any], total_s=WHOLE_CLUSTER_S)
        except NotFound as error:
            self._check_vhost(vhost, error)
            raise
        if vhost is not None:
            self._hold_definitions(path, found, vhost)
        return found

    def _hold_definitions(self, path: str, found: Mapping[str, Any], vhost: str) -> None:
        named: str | None = found.get("original_vhost_name")  # from 4.0
        told = {named} | {str(row.get("vhost", vhost)) for rows in found.values() for row in _tables(rows)}
        others = [f"vhost {each!r}" for each in sorted(each for each in told if each not in (None, vhost))]
        more = [f"{len(others) - 2} vhosts more"] if len(others) > 2 else []
        if wrong := [*(kind for kind in _OF_CLUSTER if found.get(kind)), *others[:2], *more]:
            raise self._way.refuse(path, f"the definitions of vhost {vhost!r}", ", ".join(wrong))
        if named is None:
            self._way.doubt(path)

    def import_definitions(self, definitions: Mapping[str, Any], vhost: str | None = None) -> None:
        """Import definitions into a virtual host, or into the cluster. Needs the administrator tag.

        Effect: adds what is absent and replaces policies, parameters, users and permissions of the same name. Queues
        and exchanges that are there stay as they are, and nothing is deleted. A broker that finds a mistake half way
        has taken what stood before it.

        Raises:
            PreconditionFailed: the broker does not accept them; its text says what.
        """
        path = "definitions" if vhost is None else f"definitions/{segment(vhost)}"
        self._change("POST", path, definitions, f"vhost {vhost!r}", vhost, total_s=WHOLE_CLUSTER_S)

    def _change(
        self,
        method: str,
        path: str,
        body: object,
        what: str,
        vhost: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        total_s: float = 0,
    ) -> None:
        try:
            self._send(method, path, body, headers=headers, total_s=total_s)
        except NotFound as error:
            self._check_vhost(vhost, error)
            raise NotFound(f"no {what} at {self._http.url}", code=404, text="Not Found") from error
        except ApiError as error:
            raise _refusal(error) from error


def _tables(rows: object) -> Iterable[Mapping[str, Any]]:
    return (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


def _refusal(error: ApiError) -> ApiError | BrokerRefused:
    """A value that the broker does not accept is its refusal (406 in AMQP's words), not a failure of the API."""
    text = str(error.facts.get("text", ""))
    if error.facts.get("status") not in (400, 412):
        return error
    return PreconditionFailed(f"the broker refused it: {text}", code=406, text=text, hint=error.hint)
