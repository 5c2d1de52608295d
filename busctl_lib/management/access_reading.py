"""What the management API knows of users, permissions, shovels and federation."""

from __future__ import annotations

from typing import TypeVar

from busctl_lib.errors import ApiError, ApiForbidden, NotFound
from busctl_lib.management.infos import Info
from busctl_lib.management.infos_access import AccountInfo, PermissionInfo, TopicPermissionInfo
from busctl_lib.management.infos_links import FederationLinkInfo, ShovelInfo
from busctl_lib.management.reading import Reading, is_no_path
from busctl_lib.management.transport import segment

L = TypeVar("L", bound=Info)
_SHOVELS, _FEDERATION = "rabbitmq_shovel_management", "rabbitmq_federation_management"


class AccessReading(Reading):
    """The part of a ManagementClient that reads who may do what, and what leads to other brokers."""

    def users(self) -> list[AccountInfo]:
        """The users of the broker. Needs the administrator tag."""
        return self._ask("users", list[AccountInfo], {"columns": "name,tags,limits"})

    def permissions(self, vhost: str | None = None) -> list[PermissionInfo]:
        """What users may do in one vhost, or in all. Needs the administrator tag."""
        path = "permissions" if vhost is None else f"vhosts/{segment(vhost)}/permissions"
        return self._of_vhost(path, list[PermissionInfo], vhost)

    def permissions_of(self, user: str) -> list[PermissionInfo]:
        """What one user of the broker's own database may do, in each vhost. Needs the administrator tag.

        Raises:
            NotFound: no such user there; those of other backends (LDAP, OAuth 2) are not.
        """
        return self._ask(f"users/{segment(user)}/permissions", list[PermissionInfo], asked={"user": user})

    def topic_permissions_of(self, user: str) -> list[TopicPermissionInfo]:
        """What narrows the keys of one user at topic exchanges, as `permissions_of`."""
        return self._ask(f"users/{segment(user)}/topic-permissions", list[TopicPermissionInfo], asked={"user": user})

    def shovels(self, vhost: str | None = None) -> list[ShovelInfo]:
        """Shovels of one vhost, or of all; those among them that are declared and do not run. Needs the monitoring tag.

        Raises:
            NotFound: the broker's plug-in for them is off; the text says so.
        """
        found = self._links("shovels", ShovelInfo, vhost, _SHOVELS)
        return [*found, *self._not_running(vhost, found)]

    def federation_links(self, vhost: str | None = None) -> list[FederationLinkInfo]:
        """Federation links of one vhost, or of all. Needs the monitoring tag.

        Raises:
            NotFound: the broker's plug-in for them is off; the text says so.
        """
        return self._links("federation-links", FederationLinkInfo, vhost, _FEDERATION)

    def _not_running(self, vhost: str | None, running: list[ShovelInfo]) -> list[ShovelInfo]:
        """Shovels that are declared and that no node tells of: from 4.0 those whose link does not come about."""
        known = {(info.vhost, info.name) for info in running}
        try:
            declared = self._list("parameters/shovel", ShovelInfo, vhost, {"columns": "name,vhost"})
        except (ApiForbidden, NotFound):  # what is declared needs the policymaker tag
            return []
        idle = [info for info in declared if (info.vhost, info.name) not in known]
        for info in idle:
            info.type = "dynamic"
        return idle

    def _links(self, noun: str, kind: type[L], vhost: str | None, plugin: str) -> list[L]:
        try:
            path = noun if vhost is None else f"{noun}/{segment(vhost)}"
            return self._of_vhost(path, list[kind], vhost)  # type: ignore[valid-type]
        except (NotFound, ApiError) as error:
            if not is_no_path(error):
                raise
            self._check_vhost(vhost)
            text = f"this broker tells nothing of {noun.replace('-', ' ')}: its plug-in {plugin} is off"
            hint = f"rabbitmq-plugins enable {plugin}"
            raise NotFound(text, hint=hint, code=404, text="Not Found") from error
