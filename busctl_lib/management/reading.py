"""How the management client reads: an absent vhost, and one that the user may not enter, told from an absent object."""

from __future__ import annotations

from typing import TypeVar

from busctl_lib.errors import ApiForbidden, BusError, NotFound, VhostNotFound
from busctl_lib.management.asking import Asked, Asking
from busctl_lib.management.infos import ExchangeInfo
from busctl_lib.management.infos_cluster import VhostInfo
from busctl_lib.management.transport import Params, segment

T = TypeVar("T")
_ALWAYS_THERE = "amq.match"
"""An exchange that each vhost has and nobody can delete."""
_HIDDEN = "not_found"
"""What 4.3 says to who may not enter; its word for what is not there is "Object Not Found"."""
_NO_SUCH_PATH = (400, 404, 406)
"""What the API's server of static files says to who asks for JSON, where nothing owns the path; 400 for vhost /."""


def is_no_path(error: BusError) -> bool:
    """Whether this broker has nothing at a path: a version without it, a plug-in that is off."""
    return error.facts.get("status") in _NO_SUCH_PATH


class Reading(Asking):
    """What the reading parts of a ManagementClient share."""

    def _list(self, noun: str, kind: type[T], vhost: str | None, params: Params | None = None) -> list[T]:
        path = noun if vhost is None else f"{noun}/{segment(vhost)}"
        return self._of_vhost(path, list[kind], vhost, params)  # type: ignore[valid-type]

    def _of_vhost(
        self, path: str, kind: type[T], vhost: str | None, params: Params | None = None, asked: Asked | None = None
    ) -> T:
        """An answer that is only absent when its vhost is."""
        try:
            return self._ask(
                path, kind, params, asked={**({"vhost": vhost} if vhost is not None else {}), **(asked or {})}
            )
        except (NotFound, ApiForbidden) as error:
            self._check_vhost(vhost, error)
            raise

    def _one(self, path: str, kind: type[T], vhost: str, noun: str, name: str, params: Params | None = None) -> T:
        """One object of a vhost: it or its vhost may be absent."""
        try:
            return self._of_vhost(path, kind, vhost, params, {"name": name})
        except NotFound as error:
            raise NotFound(f"no {noun} {name!r} in vhost {vhost!r}", code=404, text="Not Found", vhost=vhost) from error

    def _vhost(self, name: str) -> VhostInfo:
        try:
            return self._ask(f"vhosts/{segment(name)}", VhostInfo, asked={"name": name})
        except NotFound as error:
            raise self._no_vhost(name, hidden=False) from error

    def _check_vhost(self, vhost: str | None, error: BusError | None = None) -> None:
        """Say so when a vhost is absent or this user may not enter it; a small request, where an error does not tell.

        Raises:
            VhostNotFound: it is.
        """
        if vhost is None:
            return
        if not isinstance(error, ApiForbidden):
            path = f"exchanges/{segment(vhost)}/{_ALWAYS_THERE}"
            try:
                self._ask(path, ExchangeInfo, {"columns": "name,vhost"}, asked={"vhost": vhost, "name": _ALWAYS_THERE})
            except NotFound as absent:
                raise self._no_vhost(vhost, hidden=absent.facts.get("error") == _HIDDEN) from (error or absent)
            except ApiForbidden as refused:
                error = refused
        if error is not None and "access virtual host" in error.facts.get("text", ""):
            raise self._no_vhost(vhost, hidden=True) from error

    def _no_vhost(self, vhost: str, *, hidden: bool) -> VhostNotFound:
        login, url = self._http.login, self._http.url
        if hidden:
            reason = f"{login.who} has no access to it"
            text = f"{login.who} has no access to vhost {vhost!r} at {url}"
            hint = login.rights_needed(vhost)
        else:
            reason, hint = "it does not exist", "check the name of the vhost"
            text = f"no vhost {vhost!r} at {url}: {reason}"
        return VhostNotFound(text, hint=hint, address=url, reason=reason, vhost=vhost)
