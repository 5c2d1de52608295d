"""Who we are to the management API: a user and a password, or an access token."""

from __future__ import annotations

from typing import Any

from busctl_lib.errors import ApiLoginRefused, BusError
from busctl_lib.management.proxies import basic
from busctl_lib.tokens import TokenSource, said_end


class Login:
    """The login of one address. Thread: any.

    Args:
        url: The address, without credentials.
        username, password: Of HTTP's Basic login; an empty user is none, and asks nothing.
        token: Instead of the two.
    """

    def __init__(self, url: str, username: str, password: str, token: TokenSource | None) -> None:
        self.username = username if token is None else ""
        """"" where only the broker knows who the token stands for."""
        self.who = f"user {username!r}" if token is None else "the user of the access token"
        """As it is told to people."""
        self._url = url
        self._basic = basic(username, password)
        self._token = token

    def header(self) -> str:
        """Give the header of a request.

        Raises:
            ApiLoginRefused: there is no login that HTTP could carry, or no token.
        """
        if self._token is not None:
            try:
                return f"Bearer {self._token()}"
            except BusError as error:
                text = f"there is no access token for the management API at {self._url}: {error}"
                raise ApiLoginRefused(text, hint=error.hint, url=self._url) from None
        if not self.username:
            raise ApiLoginRefused(
                f"there is no login for the management API at {self._url}: RabbitMQ takes a certificate for AMQP alone",
                hint="name a user for the API: in api_url, or as username and password_... of the context",
                url=self._url,
            )
        if ":" in self.username:
            user = self.username.partition(":")[0]
            raise ApiLoginRefused(
                f"{self.who} cannot log in to the management API at {self._url}: HTTP ends a user name at its colon, "
                f"so the broker would see {user!r}; AMQP takes it as it is",
                hint="name another user for the API: --api-url http://user@host:15672, or api_url of the context",
                url=self._url,
            )
        return self._basic

    def another(self, header: str) -> bool:
        """Whether it is worth to ask once more after the broker refused this one."""
        return self._token is not None and self._token.refused(header.removeprefix("Bearer "))

    def tag_needed(self, tag: str) -> str:
        """Say what to ask an administrator for, to get a tag."""
        if self._token is not None:
            return f"ask for a token with the scope tag:{tag}, behind the broker's prefix"
        return f"ask for: rabbitmqctl set_user_tags {self.username} {tag}"

    def rights_needed(self, vhost: str) -> str:
        """Say what to ask an administrator for, to get into a virtual host."""
        if self._token is not None:
            return "ask for a token with scopes of this vhost: configure:VHOST/*, write:VHOST/*, read:VHOST/*"
        return f"ask for: rabbitmqctl set_permissions -p {vhost} {self.username} CONFIGURE WRITE READ"

    def refusal(self, facts: dict[str, Any]) -> ApiLoginRefused:
        """Make the error for a login that the broker refused."""
        if self._token is not None:
            text = f"the management API at {self._url} refused the access token{said_end(self._token)}"
            hint = "the broker's log says why: its signature, its audience, or that it ended"
            return ApiLoginRefused(text, hint=hint, **facts)
        return ApiLoginRefused(
            f"the management API at {self._url} refused the login of {self.username!r}: wrong user or password",
            hint="check the user and the password; guest may log in from the broker's own machine only",
            **facts,
        )
