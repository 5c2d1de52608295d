"""What the management API says of users and their permissions, as types."""

from __future__ import annotations

from typing import Any

from busctl_lib.management.infos import Info


class AccountInfo(Info):
    """One user of the broker. Its password's hash is never asked for."""

    name: str
    tags: list[str] | str | None = None
    limits: dict[str, Any] | None = None

    @property
    def tag_names(self) -> list[str]:
        """The tags, however this version of the broker writes them."""
        tags = self.tags.split(",") if isinstance(self.tags, str) else self.tags or []
        return [tag.strip() for tag in tags if tag.strip()]


class PermissionInfo(Info):
    """What one user may do in one virtual host: regular expressions over names, "" for nothing."""

    user: str
    vhost: str
    configure: str | None = None
    write: str | None = None
    read: str | None = None


class Abilities(Info):
    """What this broker can do, and what we may: found out once. None is not known."""

    user: str
    tags: list[str]
    version: str | None = None
    plugins: list[str] | None = None
    """Enabled on every node. None without the monitoring tag."""
    rates_mode: str | None = None
    """basic, detailed or none."""
    permissions: PermissionInfo | None = None
    """Ours in the virtual host. None without the administrator tag."""

    def tagged(self, tag: str) -> bool:
        """Whether we may what a tag allows: administrator includes all, monitoring and policymaker management."""
        order = {"management": {"management", "policymaker", "monitoring", "administrator"}}
        return bool(set(self.tags) & (order.get(tag, {tag}) | {"administrator"}))
