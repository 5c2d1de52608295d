"""OAuth 2 access tokens: got from whoever knows, kept until shortly before they end, and got anew after a refusal."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime

from busctl_lib.errors import ConfigError

_MARGIN_S = 60.0
_AGAIN_S = 5.0
"""How soon a renewal that failed is tried again."""
_JUST_NOW_S = 2.0


class TokenSource:
    """A token that is always one that the broker may still accept. Use it as the `password` of a MessageBroker.

    A JWT is renewed a minute before it ends, or in the last quarter of a short life; of any other the end is not known,
    so it is kept until it is refused.

    Args:
        fetch: gets a new token; it may take its time, and is never called twice at once.

    Thread: any.
    """

    def __init__(self, fetch: Callable[[], str]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._value: str | None = None
        self._got_at = 0.0
        self._renew_at: float | None = None
        self.ends_at: float | None = None
        """When the last token says that it ends, in seconds since 1970; None where it does not say."""
        self._renewing = False

    def __repr__(self) -> str:
        return "TokenSource()"

    def __call__(self) -> str:
        """Give the token, a new one where there is none or it ends soon.

        Raises:
            What `fetch` raises, where there is no other that has not ended.
        """
        with self._lock:
            value = self._value
            if value is None or not self.ready:
                try:
                    value = self._take(self._fetch())
                except Exception:
                    if value is None or self.ended:
                        raise
                    self._renew_at = time.time() + _AGAIN_S
            return value

    @property
    def value(self) -> str | None:
        """The token as it is; None where there is none."""
        return self._value

    @property
    def ready(self) -> bool:
        """Whether there is one that need not be renewed yet."""
        return self._value is not None and (self._renew_at is None or time.time() < self._renew_at)

    @property
    def ended(self) -> bool:
        """Whether the token says that it has ended."""
        return self.ends_at is not None and self.ends_at <= time.time()

    def renew(self, done: Callable[[Exception | None], None]) -> None:
        """Get a token on a thread of its own, and call back with what went wrong, if anything."""

        def get() -> None:
            try:
                self()
            except Exception as error:  # noqa: BLE001 - of whoever gets tokens; it is told where the token is missed
                done(error)
            else:
                done(None)

        threading.Thread(target=get, name="busctl-token", daemon=True).start()

    def renew_if_due(self) -> None:
        """Begin to get a new one where it is time, and do not wait for it."""
        if not self.ready and not self._renewing:
            self._renewing = True
            self.renew(self._renewed)

    def _renewed(self, error: Exception | None) -> None:
        if error is not None:
            self._renew_at = time.time() + _AGAIN_S
        self._renewing = False

    def refused(self, token: str) -> bool:
        """Take note that the broker refused a token; whether it is worth to try with another one."""
        with self._lock:
            if token == self._value:
                if time.time() - self._got_at < _JUST_NOW_S:
                    return False
                self._value = None
            return True

    def _take(self, token: str) -> str:
        if not token or not token.isprintable() or " " in token:
            raise ConfigError("what should be an access token is none", hint="it is one word without spaces")
        self._value, self._got_at = token, time.time()
        self.ends_at = ends_at(token)
        self._renew_at = None
        if self.ends_at is not None:
            left_s = self.ends_at - self._got_at
            self._renew_at = self._got_at + max(left_s - min(_MARGIN_S, left_s / 4), 1.0)
        return token


def said_end(source: TokenSource) -> str:
    """Say behind the mention of a token that it has ended, if it has; else nothing."""
    at = source.ends_at
    if at is None or at > time.time():
        return ""
    return f", which ended {datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def ends_at(token: str) -> float | None:
    """When a JWT ends, in seconds since 1970, read without checking its signature; None where it does not say."""
    parts = token.split(".")
    with contextlib.suppress(ValueError, TypeError):  # of what is no JWT
        if len(parts) == 3:
            claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
            exp = claims.get("exp") if isinstance(claims, dict) else None
            return float(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) else None
    return None
