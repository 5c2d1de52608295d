"""What a broker and a user allow: found out once, so that nothing is tried in vain and each gap has its reason."""

from __future__ import annotations

from typing import Literal

import msgspec

from busctl_lib.errors import ApiError
from busctl_lib.management import ManagementClient, OverviewInfo

State = Literal["available", "degraded", "missing"]
Cause = Literal["tag", "plugin", "setting", "way"]


class Feature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that can be done or seen here, or cannot."""

    name: str
    state: State = "available"
    reason: str | None = None
    """Why it is less than available, and what it takes."""
    cause: Cause | None = None

    def __str__(self) -> str:
        return self.name if self.reason is None else f"{self.name}: {self.reason}"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found."""

    version: str | None
    user: str
    tags: list[str]
    plugins: list[str] | None
    """Those that run; None where this user may not see the nodes, or one has only just started."""
    features: list[Feature]

    def feature(self, name: str) -> Feature:
        """Give one by its name."""
        return next(feature for feature in self.features if feature.name == name)

    @property
    def lacking(self) -> list[Feature]:
        """Those that are less than available."""
        return [feature for feature in self.features if feature.state != "available"]


def detect(api: ManagementClient) -> Capabilities:
    """Ask who we are, which version and plugins there are, and work out what follows: four small requests.

    Raises:
        ApiError: the API cannot be asked at all.
    """
    me = api.whoami()
    overview = api.overview()
    tags = set(me.tag_names)
    plugins = _plugins(api, tags)
    return Capabilities(
        version=overview.rabbitmq_version,
        user=me.name,
        tags=sorted(tags),
        plugins=sorted(plugins) if plugins is not None else None,
        features=[*_by_tag(tags), *_by_plugin(plugins), _rates(overview), _way(api)],
    )


def _plugins(api: ManagementClient, tags: set[str]) -> set[str] | None:
    """The plugins that run on every node that runs; a node says them some seconds after it started."""
    if not tags & {"monitoring", "administrator"}:
        return None
    try:
        nodes = [node.enabled_plugins for node in api.nodes() if node.running]
    except ApiError:
        return None
    known = [set(plugins) for plugins in nodes if plugins]
    return set.intersection(*known) if known and len(known) == len(nodes) else None


def _by_tag(tags: set[str]) -> list[Feature]:
    administrator = "administrator" in tags
    monitoring = administrator or "monitoring" in tags
    policymaker = administrator or "policymaker" in tags
    needs = (
        ("nodes, and the connections of others", "monitoring", monitoring),
        ("policies set and cleared", "policymaker", policymaker),
        ("firehose", "administrator", administrator),
        ("users and permissions", "administrator", administrator),
        ("definitions imported, or of the whole cluster", "administrator", administrator),
    )
    return [
        Feature(name=name) if has else Feature(name=name, state="missing", cause="tag", reason=f"needs the {tag} tag")
        for name, tag, has in needs
    ]


def _by_plugin(plugins: set[str] | None) -> list[Feature]:
    needs: tuple[tuple[str, str, State, str], ...] = (
        ("events", "rabbitmq_event_exchange", "degraded", "from differences between snapshots, without who did it"),
        ("consumer counts of more than 1,000 queues", "rabbitmq_prometheus", "degraded", "not in the list"),
        ("shovels", "rabbitmq_shovel_management", "missing", "not shown"),
        ("federation", "rabbitmq_federation_management", "missing", "not shown"),
        ("readers of streams", "rabbitmq_stream_management", "missing", "not shown"),
    )
    made = []
    for name, plugin, state, effect in needs:
        if plugins is None:
            reason = f"{effect} unless {plugin} is on, which this user cannot see, or not yet"
            made.append(Feature(name=name, state="degraded", reason=reason))
        elif plugin in plugins:
            made.append(Feature(name=name))
        else:
            reason = f"{effect}: the plugin {plugin} is off"
            made.append(Feature(name=name, state=state, cause="plugin", reason=reason))
    return made


def _way(api: ManagementClient) -> Feature:
    trouble = api.trouble_on_the_way()
    if trouble is None:
        return Feature(name="changes by the API")
    return Feature(name="changes by the API", state="missing", cause="way", reason=f"refused by busctl: {trouble}")


def _rates(overview: OverviewInfo) -> Feature:
    if overview.disable_stats:
        reason = "management.disable_stats is set: rates and history come from Prometheus alone"
        return Feature(name="rates and history", state="missing", cause="setting", reason=reason)
    if overview.rates_mode == "none":
        return Feature(name="rates and history", state="degraded", cause="setting", reason="rates_mode is none")
    return Feature(name="rates and history")
