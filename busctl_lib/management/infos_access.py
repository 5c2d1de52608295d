"""What the management API says of users and their permissions, as types."""

from __future__ import annotations

from typing import Any

from busctl_lib.management.infos import Info


class UserInfo(Info):
    """The user we are to the API."""

    name: str
    tags: list[str] | str | None = None
    is_internal_user: bool | None = None
    """Whether the broker's own database has this user; from 4.0."""

    @property
    def tag_names(self) -> list[str]:
        """The tags, however this version of the broker writes them (up to 3.8: one string with commas)."""
        tags = self.tags.split(",") if isinstance(self.tags, str) else self.tags or []
        return [tag.strip() for tag in tags if tag.strip()]


class AccountInfo(UserInfo):
    """One user of the broker. Its password's hash is never asked for."""

    limits: dict[str, Any] | None = None


class PermissionInfo(Info):
    """What one user may do in one virtual host: regular expressions over names, "" for nothing."""

    user: str
    vhost: str
    configure: str | None = None
    write: str | None = None
    read: str | None = None


class TopicPermissionInfo(Info):
    """Which routing keys one user may use at one topic exchange; where there is none, all."""

    user: str
    vhost: str
    exchange: str = ""
    write: str | None = None
    read: str | None = None
