"""What the cluster says of its own health, of what it will not have for long, and of the readers of a stream."""

from __future__ import annotations

from busctl_lib.errors import ApiError, ApiUnreachable, NotFound
from busctl_lib.management.infos import Info, StreamTracking
from busctl_lib.management.infos_cluster import DeprecatedFeature, HealthCheck
from busctl_lib.management.reading import Reading, is_no_path
from busctl_lib.management.transport import segment

_CHECKS = {
    "quorum-queues-without-elected-leaders": "quorum-queues-without-elected-leaders/all-vhosts/",
    "metadata-store/initialized": "metadata-store/initialized",
    "is-in-service": "is-in-service",
    "below-node-connection-limit": "below-node-connection-limit",
    "ready-to-serve-clients": "ready-to-serve-clients",
}
"""All are new in 4.1 or later. Each looks and changes nothing; all but the first look at the node that answers."""
_CHECK_S = 5.0
"""Who needs longer for an answer is not asked for the rest."""


_STREAMS = "rabbitmq_stream_management"


class _Verdict(Info):
    status: str | None = None
    reason: str | None = None


class ClusterReading(Reading):
    """The part of a ManagementClient that asks the cluster about itself."""

    def health(self) -> list[HealthCheck]:
        """Ask the broker's own checks, one after the other; some seconds at most.

        Source: https://www.rabbitmq.com/docs/monitoring#health-checks.
        """
        found: list[HealthCheck] = []
        try:
            for name, path in _CHECKS.items():
                found.append(self._check(name, path))
        except ApiUnreachable as error:
            left = list(_CHECKS)[len(found) :]
            found += [HealthCheck(name=name, status="unknown", reason=str(error)) for name in left]
        return found

    def _check(self, name: str, path: str) -> HealthCheck:
        try:
            self._ask(f"health/checks/{path}", _Verdict, total_s=_CHECK_S)
        except (NotFound, ApiError) as error:
            if is_no_path(error):
                return HealthCheck(name=name, status="absent")
            if error.facts.get("status") == 503:
                return HealthCheck(name=name, status="failed", reason=str(error.facts.get("text")))
            if isinstance(error, ApiUnreachable):
                raise
            return HealthCheck(name=name, status="unknown", reason=str(error))
        return HealthCheck(name=name, status="ok")

    def deprecated_features(self, *, used: bool = False) -> list[DeprecatedFeature] | None:
        """Features that a later version will not have, all or those in use; None before 3.13, which does not tell."""
        try:
            path = f"deprecated-features{'/used' if used else ''}"
            return self._ask(path, list[DeprecatedFeature], total_s=_CHECK_S)
        except (NotFound, ApiError) as error:
            if not is_no_path(error):
                raise
            return None

    def stream_tracking(self, vhost: str, name: str) -> StreamTracking:
        """The offsets that readers of a stream have stored in it.

        Raises:
            NotFound: the broker's plug-in for it is off, or there is no such queue.
            ApiError: it is no stream, or has no leader.
        """
        path = f"stream/{segment(vhost)}/{segment(name)}/tracking"
        try:
            found = self._ask(path, StreamTracking)
        except (NotFound, ApiError) as error:
            if not is_no_path(error):
                raise
            text = f"this broker does not tell where the readers of streams are: its plug-in {_STREAMS} is off"
            raise NotFound(text, hint=f"rabbitmq-plugins enable {_STREAMS}", code=404, text="Not Found") from error
        self._way.doubt(path)
        return found
