"""The way to the API: whether names arrive there as they were sent.

A reverse proxy may write an address anew before it passes it on: nginx decodes %2F wherever a path stands behind the
port of `proxy_pass`, others decode or encode twice. What was asked of vhost "/" then reaches another object, or all.
The broker says the names back that it got in one place, to everyone who may log in: a check of health for a protocol
that no one speaks. Run on 3.10.8, 4.0.5 and 4.3.6, direct and behind nginx 1.22.
Source: https://www.rabbitmq.com/docs/management#proxy, https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_pass.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from busctl_lib.errors import GuardRefused
from busctl_lib.management.transport import Transport, segment

_CHECK = "health/checks/protocol-listener"
_WORD = "busctl/keeps//names%2fwhole%?x#y+z w"
"""What any name may hold and what ways are known to change, in small letters: the broker makes them small."""
_PLAIN = "busctl"
_UNHEALTHY = 503
"""What the broker answers to a check that fails, as this one does."""


class _Checked(msgspec.Struct):
    """What the broker says of such a check; `missing` is what it was asked for."""

    missing: list[str] | str


class _Trouble(NamedTuple):
    """What is wrong with the way."""

    text: str
    sure: bool
    """Whether names are known to be changed, rather than not known to be kept."""


class Way:
    """Proves once that the way to an API keeps names whole, by reading alone.

    Thread: any; at worst it is proven twice.
    """

    def __init__(self, http: Transport) -> None:
        self._http = http
        self._proven = False

    def trouble(self) -> str | None:
        """Say what is wrong with the way; None for a good one."""
        trouble = self._trouble()
        return f"{trouble.text}; {self._hint}" if trouble is not None else None

    def prove(self, purpose: str) -> None:
        """Refuse what must not go a way that is not known to be good.

        Args:
            purpose: What it was to be, for the error.

        Raises:
            GuardRefused: names are changed, or it cannot be known.
        """
        trouble = self._trouble()
        if trouble is not None:
            raise self._refusal(
                f"refused: {trouble.text}, so {purpose} at {self._http.url} could hit another object; nothing was done"
            )

    def doubt(self, path: str) -> None:
        """Have an answer that does not tell what it is about believed, unless the way is known to change the path.

        Raises:
            GuardRefused: it is.
        """
        if "%" in path and (trouble := self._trouble()) is not None and trouble.sure:
            url = self._http.url
            raise self._refusal(
                f"{trouble.text}: what {url} says of {path} may be about another object, and is not shown"
            )

    def refuse(self, path: str, asked: str, told: str) -> GuardRefused:
        """Make the error for an answer that is about something else, by what is known of the way."""
        trouble = self._trouble()
        why = f": {trouble.text}" if trouble is not None else ""
        return self._refusal(f"{self._http.url} was asked about {asked} and answered about {told} ({path}){why}")

    def _trouble(self) -> _Trouble | None:
        if self._proven:
            return None
        arrived = self._arrived(_WORD)
        if arrived == _WORD:
            self._proven = True
            return None
        if arrived is not None:
            return _Trouble(f"a proxy on the way turns the name {_WORD!r} into {arrived!r}", True)
        if self._arrived(_PLAIN) == _PLAIN:
            return _Trouble(
                "a proxy on the way does not keep %2F and %25 in addresses (the vhost '/', a slash in a name)", True
            )
        return _Trouble(f"nothing proves that names arrive as they are (no answer of RabbitMQ to GET {_CHECK})", False)

    def _arrived(self, name: str) -> str | None:
        """What a name is when the broker reads it; None where the answer is not the broker's."""
        status, body = self._http.look(f"{_CHECK}/{segment(name)}")
        try:
            missing = msgspec.json.decode(body, type=_Checked).missing if status == _UNHEALTHY else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return ",".join(missing) if isinstance(missing, list) else missing

    @property
    def _hint(self) -> str:
        prefix = urlsplit(self._http.url).path
        behind = f", and management.path_prefix = {prefix} in the broker's rabbitmq.conf" if prefix else ""
        line = "`proxy_pass http://BROKER:15672;` in nginx, with nothing behind the port, not even a /"
        return f"ask the broker's own address, or pass addresses on as they are: {line}{behind}"

    def _refusal(self, text: str) -> GuardRefused:
        return GuardRefused(text, hint=self._hint)
