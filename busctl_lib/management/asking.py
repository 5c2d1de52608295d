"""How a management client asks: each answer is held against what was asked for, and no change goes an unproven way."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from busctl_lib.errors import ApiError, ApiLoginRefused, NotFound
from busctl_lib.management.transport import Params, Transport
from busctl_lib.management.way import Way

T = TypeVar("T")
Asked = Mapping[str, str]
_ABOUT_SOMETHING = (200, 400, 401, 403, 404, 405, 406, 500)
"""Refusals by the broker that say something of an object, and so may be about another one."""
_ANY: Asked = MappingProxyType({})


class Asking:
    """What all parts of a ManagementClient share."""

    _http: Transport
    _way: Way

    def _ask(
        self,
        path: str,
        kind: type[T],
        params: Params | None = None,
        *,
        asked: Asked = _ANY,
        total_s: float | None = None,
    ) -> T:
        """GET an answer about what was asked for.

        Args:
            path: Below /api/.
            kind: Of the answer: one info, or a list.
            params: The query.
            asked: Fields of each info, and what they must be.
            total_s: For an answer that takes the broker long.

        Raises:
            GuardRefused: it is about something else, or a proxy makes it impossible to know.
            NotFound: what was asked for is not there, as far as the answer tells.
        """
        try:
            answer = self._http.get(path, kind, params, total_s=total_s)
        except (NotFound, ApiError) as error:
            if error.facts.get("status") in _ABOUT_SOMETHING and not isinstance(error, ApiLoginRefused):
                self._way.doubt(path)
            raise
        self._hold(path, answer, {field: _as_told(value) for field, value in asked.items()})
        return answer

    def _hold(self, path: str, answer: object, asked: Asked) -> None:
        rows: Any = getattr(answer, "items", answer)
        told = False
        for row in rows if isinstance(rows, list) else [answer]:
            for field, value in asked.items():
                found = getattr(row, field, None)
                if found is not None and found != value:
                    raise self._way.refuse(path, f"{field} {value!r}", f"{found!r}")
                told = told or found is not None
        if asked and not told:
            self._way.doubt(path)

    def guard_change(self, what: str) -> None:
        """Refuse a change before it is planned where a proxy on the way would make it another; by reading alone.

        Raises:
            GuardRefused: it would, or it cannot be known.
        """
        self._way.prove(what)

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        total_s: float | None = None,
    ) -> None:
        """Send a change, which no answer tells the object of, by a way that is proven to keep names whole.

        Raises:
            GuardRefused: it is not, or this client is read-only.
        """
        if not self._http.read_only:
            self.guard_change(f"{method} {path}")
        self._http.change(method, path, body, headers=headers, total_s=total_s)


def _as_told(name: str) -> str:
    """How the API writes a name: bytes that are no text, as a command line may have them, are not told."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
