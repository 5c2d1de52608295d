"""How the management client reads: an absent vhost, and one that the user may not enter, told from an absent object."""

from __future__ import annotations

from typing import TypeVar

from busctl_lib.errors import ApiForbidden, NotFound, VhostNotFound
from busctl_lib.management.infos import ExchangeInfo
from busctl_lib.management.transport import Params, Transport, segment

T = TypeVar("T")


class Reading:
    """What the reading parts of a ManagementClient share."""

    _http: Transport

    def _list(self, noun: str, kind: type[T], vhost: str | None, params: Params | None = None) -> list[T]:
        path = noun if vhost is None else f"{noun}/{segment(vhost)}"
        return self._of_vhost(path, list[kind], vhost, params)  # type: ignore[valid-type]

    def _of_vhost(self, path: str, kind: type[T], vhost: str | None, params: Params | None = None) -> T:
        """An answer that is only absent when its vhost is."""
        try:
            return self._http.get(path, kind, params)
        except NotFound as error:
            if vhost is None:
                raise
            raise self._no_vhost(vhost, "it does not exist") from error
        except ApiForbidden as error:
            if vhost is None or "access virtual host" not in error.facts.get("text", ""):
                raise
            raise self._no_vhost(vhost, f"user {self._http.username!r} has no access to it") from error

    def _one(self, path: str, kind: type[T], vhost: str, what: str, params: Params | None = None) -> T:
        """An answer about one object: it or its vhost may be absent."""
        try:
            return self._http.get(path, kind, params)
        except NotFound as error:
            self._list("exchanges", ExchangeInfo, vhost, {"columns": "name,vhost"})  # says so when the vhost is absent
            raise NotFound(f"no {what} in vhost {vhost!r}", code=404, text="Not Found", vhost=vhost) from error
        except ApiForbidden as error:
            if "access virtual host" not in error.facts.get("text", ""):
                raise
            raise self._no_vhost(vhost, f"user {self._http.username!r} has no access to it") from error

    def _no_vhost(self, vhost: str, reason: str) -> VhostNotFound:
        return VhostNotFound(
            f"no vhost {vhost!r} at {self._http.url}: {reason}",
            hint="check the vhost and the user's permissions on it",
            address=self._http.url,
            reason=reason,
            vhost=vhost,
        )
