"""What `busctl contexts check` finds out and prints: both doors, who one is there, and what one may do."""

from __future__ import annotations

import msgspec

from busctl.cli import output
from busctl.config import DEFAULT, Settings
from busctl.session import Session
from busctl.views.formats import safe_text
from busctl.views.view import Tone
from busctl_lib.abilities import Ability, abilities
from busctl_lib.capabilities import Feature
from busctl_lib.errors import ApiError, BusError, ConfigError, VhostNotFound
from busctl_lib.management import PermissionInfo
from busctl_lib.management.infos_access import TopicPermissionInfo
from busctl_lib.rights import Rights


class Side(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What came of trying one of a broker's two doors."""

    works: bool
    version: str | None = None
    user: str | None = None
    tags: list[str] | None = None
    features: list[Feature] | None = None
    """What can be done there, as far as that side knows."""
    error: str | None = None


class May(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What the user of AMQP may do in the virtual host."""

    permissions: PermissionInfo | None = None
    """Its patterns, where the API tells them."""
    topics: list[TopicPermissionInfo]
    abilities: list[Ability]


def write(settings: Settings, form: output.Format | None) -> bool:
    """Try both doors, and print what came of it; whether one of them works."""
    with Session(settings) as session:
        return _write(session, settings, form)


def _write(session: Session, settings: Settings, form: output.Format | None) -> bool:
    amqp, api = _try_amqp(session), _try_api(session)
    may = _try_rights(session, amqp, api)
    missing = list(
        dict.fromkeys([*_missing(amqp, api), *(str(each) for each in may.abilities if each.state == "missing")])
    )
    if settings.tls is not None and not settings.tls.verify:
        missing.append("safety: who answers is not verified (tls.verify = false)")
    explained = settings.explain()
    if form in (output.Format.JSON, output.Format.JSONL):
        values = [{"name": key, "value": value, "source": source} for key, value, source in explained]
        told = {"amqp": amqp, "api": api, "missing": missing, "rights": may}
        output.write_value(told | {"settings": values, "parameters": settings.parameters}, form)
        return amqp.works or api.works
    lines = [(key, safe_text(f"{value}  ({source})")) for key, value, source in explained if source != DEFAULT]
    lines += [("parameter", safe_text(f"{each.name}={each.value}: {each.effect}")) for each in settings.parameters]
    lines += [("amqp", _shown(amqp)), ("api", _shown(api)), *_shown_rights(may)]
    lines += [("missing", safe_text(text)) for text in missing]
    lines += [("less", safe_text(text)) for text in _degraded(api)]
    lay_out = "{}\t{}\n" if form is output.Format.TSV else "{:<10} {}\n"
    output.write("".join(lay_out.format(key, text) for key, text in lines))
    return amqp.works or api.works


def _try_amqp(session: Session) -> Side:
    try:
        return Side(works=True, version=session.broker.server_version)
    except ConfigError:
        raise
    except VhostNotFound as error:  # which AMQP tells from one without access as little as from one that is not there
        return Side(works=False, error=_why_no_vhost(session) or str(error))
    except BusError as error:
        return Side(works=False, error=str(error))


def _why_no_vhost(session: Session) -> str | None:
    """What the API says of the virtual host, if it says something is wrong with it."""
    try:
        session.management.exchange(session.vhost, "amq.direct")
    except VhostNotFound as error:
        return str(error)
    except BusError:
        return None
    return None


def _try_api(session: Session) -> Side:
    try:
        found = session.capabilities
    except ApiError as error:
        return Side(works=False, error=str(error))
    return Side(works=True, version=found.version, user=found.user, tags=found.tags, features=found.features)


def _try_rights(session: Session, amqp: Side, api: Side) -> May:
    """Find out what the user may do; nothing is known of it where AMQP does not work and the API does not tell."""
    rights = Rights(
        session.vhost,
        management=session.management if api.works else None,
        broker=session.broker if amqp.works else None,
        username=None if amqp.works else session.broker.endpoints[0].username,
    )
    found = abilities(rights, api.tags if api.works else None) if amqp.works or rights.patterns is not None else []
    return May(permissions=rights.patterns, topics=rights.topics, abilities=found)


def _shown_rights(may: May) -> list[tuple[str, str]]:
    told, lines = may.permissions, []
    if told is not None:
        patterns = (f"{verb} {getattr(told, verb) or ''!r}" for verb in ("configure", "write", "read"))
        lines.append(("rights", ", ".join(patterns)))
    elif may.abilities:
        lines.append(("rights", "the API does not tell them to this user: tried, by what changes nothing"))
    for topic in may.topics:
        keys = f"keys at exchange {topic.exchange}: write {topic.write or ''!r}, read {topic.read or ''!r}"
        lines.append(("rights", keys))
    possible = [each.name for each in may.abilities if each.state == "possible"]
    lines += [("can", "; ".join(possible))] if possible else []
    lines += [("unknown", str(each)) for each in may.abilities if each.state == "unknown"]
    return [(key, safe_text(text)) for key, text in lines]


def _missing(amqp: Side, api: Side) -> list[str]:
    """What this user cannot do there, and why."""
    told = []
    if not amqp.works:
        told.append("publish, tail and rpc: AMQP does not work")
    if not api.works:
        return [*told, "overview, lists and the firehose: the API does not work"]
    return told + [str(each) for each in api.features or () if each.state == "missing" and each.cause == "tag"]


def _degraded(api: Side) -> list[str]:
    """What works less well there, or not at all, whoever asks."""
    lacking = [each for each in api.features or () if each.state != "available"]
    return [str(each) for each in lacking if each.state == "degraded" or each.cause != "tag"]


def _shown(side: Side) -> str:
    if not side.works:
        return output.paint(f"fails: {safe_text(side.error or '')}", Tone.BAD)
    who = f", user {side.user}, tags {' '.join(side.tags or ()) or 'none'}" if side.user else ""
    version = f"RabbitMQ {side.version}" if side.version else "version not told"
    return output.paint("works", Tone.GOOD) + safe_text(f": {version}{who}")
