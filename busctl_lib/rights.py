"""What a user may do in a virtual host: read where it can be read, else tried without harm, else not known.

The API tells permissions to administrators alone, and only those of users in the broker's own database.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

from busctl_lib.amqp.tries import Kind, Verb, granted
from busctl_lib.amqp.tries import Need as Need
from busctl_lib.amqp.tries import new_name as new_name
from busctl_lib.broker import MessageBroker
from busctl_lib.errors import BusError
from busctl_lib.management import ManagementClient
from busctl_lib.management.infos_access import PermissionInfo, TopicPermissionInfo

_OTHER_IN_ERLANG = re.compile(r"\[\[?[:.=]|\{,|\\[Zc]")
"""What Python's `re` takes for something else, as far as it takes it at all."""
_BY_LETTERS = re.compile(r"\\[wWbBsSdD]|\(\?i")
"""Where Erlang knows the letters of Latin-1, and Python those of ASCII."""


def matches(pattern: str, name: str) -> bool | None:
    """Whether a permission's pattern takes a name, as RabbitMQ would say; None where it cannot be told.

    It is searched anywhere in the bytes of the name, and an empty one takes only the empty name.
    """
    if _OTHER_IN_ERLANG.search(pattern) or (not name.isascii() and _BY_LETTERS.search(pattern)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            return re.search((pattern or "^$").encode(), name.encode()) is not None
    except (re.error, FutureWarning, UnicodeEncodeError):
        return None


class Rights:
    """The rights of one user in one virtual host. Each is found out once.

    Args:
        vhost: the virtual host.
        management: where permissions are read, if its user may; None reads nothing.
        broker: where is tried what could not be read, or is refused by what was: another backend may grant it.
            None tries nothing.
        username: whose rights; the user of `broker` when None, else that of `management`.

    Effect: nothing on the bus; what is tried may leave a line in the broker's log (`tries.granted`).
    """

    def __init__(
        self,
        vhost: str,
        *,
        management: ManagementClient | None = None,
        broker: MessageBroker | None = None,
        username: str | None = None,
    ) -> None:
        self.vhost = vhost
        told = broker.endpoints[0] if broker is not None else management
        self.username = username if username is not None else told.username if told is not None else ""
        """"" where only the broker knows who a token or a certificate stands for."""
        self.who = f"user {username!r}" if username is not None or told is None else told.who
        """As they are told to people."""
        self._management = management
        self._broker = broker
        self._found: dict[Need, bool | None] = {}
        self._read = False
        self._patterns: PermissionInfo | None = None
        self._topics: list[TopicPermissionInfo] = []

    @property
    def patterns(self) -> PermissionInfo | None:
        """The user's patterns in this virtual host; None where they cannot be read."""
        self._read_once()
        return self._patterns

    @property
    def topics(self) -> list[TopicPermissionInfo]:
        """What narrows the user's keys at topic exchanges, where that can be read."""
        self._read_once()
        return self._topics

    def may(self, need: Need) -> bool | None:
        """Whether the user has a right; None is not known."""
        if need not in self._found:
            told = self._by_patterns(need)
            self._found[need] = told if told else self._by_trying(need, told)
        return self._found[need]

    def lacking(self, needs: Iterable[Need]) -> list[Need]:
        """Those of the rights that the user is known not to have."""
        return [need for need in needs if self.may(need) is False]

    def refusal(self, needs: Iterable[Need]) -> str | None:
        """Say which of the rights are missing, and to whom; None when none is known to be."""
        lacking = self.lacking(needs)
        if not lacking:
            return None
        rights = list(dict.fromkeys(str(need) for need in lacking))
        return f"{self.who} may not {', '.join(rights)}{self._as_they_are(lacking)}"

    def _as_they_are(self, lacking: list[Need]) -> str:
        if self.patterns is None:
            return ""
        told = {need.verb: getattr(self.patterns, need.verb) or "" for need in lacking}
        return f" ({', '.join(f'{verb} is {pattern!r}' for verb, pattern in told.items())})"

    # -- read

    def _read_once(self) -> None:
        if self._read:
            return
        self._read = True
        if self._management is None or not self.username:
            return
        try:
            me = self._management.whoami()
            if "administrator" not in me.tag_names or (me.name == self.username and me.is_internal_user is False):
                return
            rows = self._management.permissions_of(self.username)
            topics = self._management.topic_permissions_of(self.username)
        except BusError:  # who needs the API for more than this is told there
            return
        nothing = PermissionInfo(user=self.username, vhost=self.vhost, configure="", write="", read="")
        self._patterns = next((row for row in rows if row.vhost == self.vhost), nothing)
        self._topics = [row for row in topics if row.vhost == self.vhost]

    def _by_patterns(self, need: Need) -> bool | None:
        if self.patterns is None:
            return None
        told = matches(getattr(self.patterns, need.verb) or "", need.name)
        return self._by_topics(need) if told and need.routing_key is not None else told

    def _by_topics(self, need: Need) -> bool | None:
        """A key at an exchange where the user's keys are narrowed; there is no telling of other exchange types."""
        narrowed = next((row for row in self._topics if row.exchange == need.name), None)
        if narrowed is None:
            return True
        pattern = (narrowed.write if need.verb == "write" else narrowed.read) or ""
        for variable, value in (("{username}", self.username), ("{vhost}", self.vhost)):
            pattern = pattern.replace(variable, value)
        return matches(pattern, need.routing_key or "") or None

    # -- tried

    def _by_trying(self, need: Need, told: bool | None) -> bool | None:
        if self._broker is None:
            return told
        try:
            tried = granted(self._broker.links.consume, need)
        except BusError:  # who cannot connect learns that when it is used
            self._broker = None
            return told
        return told if tried is None else tried


def needs(verbs: Iterable[Verb], prefix: str, kind: Kind = "queue") -> list[Need]:
    """The rights to something of one's own, its name yet to be made up."""
    return [new_name(verb, prefix, kind) for verb in verbs]
