"""Settings: which broker, from where, and where each value came from.

Read in this order, the first that names a value wins:

1. flags: --amqp-url, --api-url, --vhost, and the context that -c names;
2. the environment: BUSCTL_AMQP_URL, BUSCTL_API_URL, BUSCTL_VHOST, and the context BUSCTL_CONTEXT names;
   a context named by -c is taken whole: the environment then adds nothing to it;
3. the context that `current` in the config file names, unless an address was given above;
4. a `busctl demo` that runs now, where nothing was configured at all;
5. guest at localhost.

Two rules keep the two addresses on one broker: an API address without credentials takes the AMQP address's; and when
the AMQP address was given above a context, the context's API address belongs to another broker and is not used: the
API is then looked for on the AMQP host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from busctl.contexts import PREVIOUS, ConfigFile, ContextConfig, DemoContext, load_with_demos, no_context, previous_of
from busctl.contexts import config_path as config_path
from busctl.passwords import PasswordSource
from busctl_lib.address_parameters import OF_TLS, Parameter, Parameters, parameters_of
from busctl_lib.addresses import Address, amqp_address, api_address, with_password
from busctl_lib.addresses import without_password as without_password
from busctl_lib.errors import ConfigError
from busctl_lib.tls import TlsFiles
from busctl_lib.tokens import TokenSource

if TYPE_CHECKING:
    from busctl.views.contexts import ContextInfo

DEFAULT_AMQP_URL = "amqp://guest:guest@localhost:5672"
DEFAULT = "default"
"""Where a value came from that nobody gave."""
RUNNING_DEMO = "the running demo"
FLAG_CONTEXT = "flag -c"
T = TypeVar("T")
_API_PORTS = {"amqp": ("http", 15672), "amqps": ("https", 15671)}


class Flags(msgspec.Struct, kw_only=True):
    """What was typed; None is not typed."""

    context: str | None = None
    amqp_url: str | None = None
    api_url: str | None = None
    vhost: str | None = None


class Value(NamedTuple):
    """A value and where it came from."""

    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One broker to talk to. The addresses hold credentials: show them only through `explain`."""

    amqp_url: str = field(repr=False)
    """With the vhost as its path."""
    api_url: str = field(repr=False)
    vhost: str
    context: str | None = None
    production: bool = False
    read_only: bool = False
    color: str | None = None
    tls: TlsFiles | None = None
    parameters: Sequence[Parameter] = ()
    """What the AMQP address says behind its question mark, and what became of it."""
    password: PasswordSource | None = field(default=None, repr=False)
    """Who knows the password that the addresses lack."""
    token: TokenSource | None = field(default=None, repr=False)
    """The access token that is used instead of a password."""
    external: bool = False
    """Whether AMQP takes our certificate instead of a password."""
    sources: Mapping[str, str]
    """Where each value came from, by its name."""

    @property
    def context_spelled_out(self) -> bool:
        """Whether the command line itself names the context: `-c -` and settings from elsewhere do not."""
        return self.sources.get("context") == FLAG_CONTEXT

    @property
    def api_lacks_login(self) -> bool:
        """Whether nothing says who we are to the API, which takes no certificate."""
        return self.external and self.token is None and api_address(self.api_url).username is None

    @property
    def token_of_api(self) -> TokenSource | None:
        """The token for the API, unless its address names another login."""
        return self.token if api_address(self.api_url).username is None else None

    def with_password(self, given: str | None = None) -> Settings:
        """Give these settings with the password in the addresses: `given`, else asked for now, where they lack it.

        Raises:
            ConfigError: there is none.
        """
        if self.password is None:
            return self
        found = self.password.fetch() if given is None else given
        same = amqp_address(self.amqp_url).username == api_address(self.api_url).username
        api_url = with_password(self.api_url, found) if same else self.api_url
        return replace(self, amqp_url=with_password(self.amqp_url, found), api_url=api_url, password=None)

    def explain(self) -> list[tuple[str, str, str]]:
        """List (name, value without password, where it came from)."""
        shown = {"amqp_url": without_password(self.amqp_url), "api_url": without_password(self.api_url)}
        shown |= {"token": "by a command"}
        return [
            (name, shown.get(name) or str(getattr(self, name)), source)
            for name, source in self.sources.items()
            if getattr(self, name) is not None
        ]


class _Layer(NamedTuple):
    """One place that may name values."""

    source: str
    amqp_url: str | None
    api_url: str | None
    vhost: str | None
    is_context: bool = False


def resolve(
    flags: Flags,
    environment: Mapping[str, str] | None = None,
    path: Path | None = None,
    *,
    context_from: str = FLAG_CONTEXT,
) -> Settings:
    """Work out the settings.

    Args:
        flags: What was typed.
        environment: `os.environ` when None.
        path: The config file; `config_path()` when None. It need not exist.
        context_from: Where the context of the flags was typed.

    Raises:
        ConfigError: a value that cannot be used, with its place and what is right.
    """
    env = os.environ if environment is None else environment
    path = path or config_path()
    file = load_with_demos(path)
    layers, named = _layers(flags, env, file, path, context_from)
    name = named.text if named is not None else None
    context = file.contexts[name] if name is not None else ContextConfig()
    return _settings(layers, named, context)


def preview(name: str, context: ContextConfig) -> Settings:
    """Work out the settings of a context that is yet to be written.

    Raises:
        ConfigError: a value in it that cannot be used.
    """
    source = "the new context"
    layers = [_layer(source, context), _Layer(DEFAULT, DEFAULT_AMQP_URL, None, None)]
    return _settings(layers, Value(name, source), context)


def _settings(layers: list[_Layer], named: Value | None, context: ContextConfig) -> Settings:
    name = named.text if named is not None else None
    at, amqp_url = _first(layers, "amqp_url")
    source = layers[at].source
    amqp = _from(source, amqp_address, amqp_url)
    parameters = _from(source, parameters_of, amqp)
    of_context = context if layers[at].is_context else ContextConfig()
    tls = _tls(source, of_context, parameters)
    external = _external(source, amqp, of_context, parameters, tls)
    known = of_context.password_source(name or "", source) if amqp.password is None else None
    amqp, password, token = _login(amqp, known, source, external)
    same_broker = [layer for index, layer in enumerate(layers) if index <= at or not layer.is_context]
    api_at, api_url = _first(same_broker, "api_url")
    api_source = same_broker[api_at].source if api_url else f"derived from the AMQP address ({source})"
    vhost = _vhost(layers)
    kept = [f"{each.name}={quote(each.value)}" for each in parameters.told if each.name not in OF_TLS]
    if external and parameters.external is None:
        kept.append("auth_mechanism=external")
    return Settings(
        amqp_url=replace(amqp, path=f"/{quote(vhost.text, safe='')}", query="&".join(kept)).url,
        api_url=_api_of(amqp, _from(api_source, api_address, api_url) if api_url else None).url,
        vhost=vhost.text,
        context=name,
        production=context.production,
        read_only=context.read_only,
        color=context.color,
        tls=tls,
        parameters=parameters.told,
        password=password,
        token=token,
        external=external,
        sources=_guard_sources(context, named)
        | {"vhost": vhost.source, "amqp_url": source, "api_url": api_source}
        | ({"password": password.place} if password is not None else {})
        | ({"token": known.place} if known is not None and token is not None else {}),
    )


def _login(
    amqp: Address, known: PasswordSource | None, source: str, external: bool
) -> tuple[Address, PasswordSource | None, TokenSource | None]:
    """Who logs in: the address with its user, and where the password or the token comes from that it lacks."""
    if known is not None and known.kind == "token":
        return amqp, None, TokenSource(known.fetch)
    if known is None and amqp.password is None and amqp.username is not None and not external:
        known = PasswordSource("prompt", amqp.username, f"the AMQP address ({source})")
    if amqp.username is None and not external:
        amqp = replace(amqp, username="guest", password="guest" if known is None else None)
    return amqp, known, None


def _from(source: str, read: Callable[[Any], T], given: object) -> T:
    """Read a value; a mistake in it is told with its place."""
    try:
        return read(given)
    except ConfigError as error:
        raise ConfigError(f"{error} ({source})", hint=error.hint) from None


def _tls(source: str, context: ContextConfig, parameters: Parameters) -> TlsFiles | None:
    """The files of the context, or those that the address names."""
    if context.tls is not None and parameters.tls is not None:
        raise ConfigError(f"TLS is described twice ({source})", hint="in its tls table, or in the address")
    return context.tls or parameters.tls


def _external(source: str, amqp: Address, context: ContextConfig, parameters: Parameters, tls: TlsFiles | None) -> bool:
    """Whether AMQP takes our certificate instead of a password."""
    told, by_address = context.auth_mechanism, parameters.external
    if told is not None and by_address is not None and by_address != (told == "external"):
        raise ConfigError(f"auth_mechanism is said twice ({source})", hint="in the address, or beside it")
    external = told == "external" or bool(by_address)
    if external and (amqp.scheme != "amqps" or tls is None or tls.cert is None):
        raise ConfigError(
            f"auth_mechanism external needs TLS and a certificate of ours ({source})",
            hint="amqps://, with cert and key in its tls table, or with certfile and keyfile in the address",
        )
    return external


def _api_of(amqp: Address, given: Address | None) -> Address:
    """The address of the API: as given, else on the host of AMQP; with the login of AMQP where it has none."""
    if given is None:
        scheme, port = _API_PORTS[amqp.scheme]
        given = Address(scheme=scheme, host=amqp.host, port=port)
    return given if given.username is not None else replace(given, username=amqp.username, password=amqp.password)


def _guard_sources(context: ContextConfig, named: Value | None) -> dict[str, str]:
    """Where the context and what it alone can say came from."""
    guards = ("production", "read_only", "color")
    sources = {guard: named.source if named and getattr(context, guard) else DEFAULT for guard in guards}
    return ({"context": named.source} if named else {}) | sources


def _only_demos(file: ConfigFile) -> str | None:
    """The first running demo, where the config file itself has no context that could be meant."""
    contexts = file.contexts.items()
    if not contexts or not all(isinstance(context, DemoContext) for _, context in contexts):
        return None
    return next(iter(file.contexts))


def address(context: ContextConfig) -> str:
    """Show where a context is, without a password.

    Raises:
        ConfigError: its address cannot be read.
    """
    return replace(amqp_address(context.amqp_url or DEFAULT_AMQP_URL), path="").shown


def vhost_of(context: ContextConfig) -> str:
    """Give the virtual host of a context."""
    return _vhost([_Layer("", context.amqp_url, None, context.vhost, True)]).text


def info_of(name: str, context: ContextConfig, *, current: bool = False, previous: bool = False) -> ContextInfo:
    """Describe a context as it may be shown."""
    from busctl.views.contexts import ContextInfo

    try:
        where, vhost = address(context), vhost_of(context)
    except ConfigError:
        where, vhost = "(cannot be read)", ""
    source = context.password_source(name, "")
    return ContextInfo(
        name=name,
        address=where,
        vhost=vhost,
        current=current,
        previous=previous,
        production=context.production,
        read_only=context.read_only,
        running_demo=isinstance(context, DemoContext),
        password=str(source) if source is not None else None,
        color=context.color,
    )


def _layers(
    flags: Flags, env: Mapping[str, str], file: ConfigFile, path: Path, context_from: str
) -> tuple[list[_Layer], Value | None]:
    """The places to look at, in order, and which context is in effect."""
    layers = [_Layer("flag", flags.amqp_url, flags.api_url, flags.vhost)]
    named = Value(flags.context, context_from) if flags.context else None
    if flags.context == PREVIOUS:
        named = Value(previous_of(file, path), f"{context_from} -, `previous` in {path}")
    if named is None:
        amqp_url, api_url, vhost = (env.get(f"BUSCTL_{name}") or None for name in ("AMQP_URL", "API_URL", "VHOST"))
        layers.append(_Layer("environment", amqp_url, api_url, vhost))
        if env.get("BUSCTL_CONTEXT") and flags.amqp_url is None:
            named = Value(env["BUSCTL_CONTEXT"], "BUSCTL_CONTEXT")
        elif file.current is not None and not any(layer.amqp_url or layer.api_url for layer in layers):
            named = Value(file.current, f"`current` in {path}")
        elif (demo := _only_demos(file)) and not any(layer.amqp_url or layer.api_url for layer in layers):
            named = Value(demo, RUNNING_DEMO)
    if named is not None:
        if named.text not in file.contexts:
            raise no_context(named.text, named.source, file.contexts, path)
        context = file.contexts[named.text]
        place = RUNNING_DEMO if isinstance(context, DemoContext) else f"{path} [contexts.{named.text}]"
        layers.append(_layer(place, context))
    layers.append(_Layer(DEFAULT, DEFAULT_AMQP_URL, None, None))
    return layers, named


def _layer(place: str, context: ContextConfig) -> _Layer:
    return _Layer(place, context.amqp_url, context.api_url, context.vhost, True)


def _first(layers: list[_Layer], name: str) -> tuple[int, str]:
    for index, layer in enumerate(layers):
        value: str | None = getattr(layer, name)
        if value:
            return index, value
    return -1, ""


def _vhost(layers: list[_Layer]) -> Value:
    for layer in layers:
        if layer.vhost:
            return Value(layer.vhost, layer.source)
        path = _from(layer.source, amqp_address, layer.amqp_url).vhost if layer.amqp_url else None
        if path is not None:
            return Value(path, f"{layer.source} (path of the AMQP address)")
    return Value("/", DEFAULT)
