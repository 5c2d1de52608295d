"""What a bus file says, ready to use."""

from __future__ import annotations

import fnmatch
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from busctl_lib.envelope import Delivery
from busctl_lib.errors import CodecError, ConfigError
from busctl_lib.methods import Method
from busctl_lib.schemas import METHODS
from busctl_lib.validation import nearest

DECODER_TIMEOUT_S = 10.0
_SAID_CHARACTERS = 200


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """A command that makes bodies readable."""

    name: str
    command: list[str]
    content_type: str | None = None
    queue: str | None = None
    key: str | None = None
    folder: str = "."
    refusal: str | None = None
    """Why it is not run."""

    def fits(self, delivery: Delivery) -> bool:
        """Whether it is for this message: everything it names must match."""
        from busctl_lib.taps.keys import matches

        if self.content_type is not None and not fnmatch.fnmatchcase(
            delivery.properties.content_type or "", self.content_type
        ):
            return False
        if self.queue is not None and not fnmatch.fnmatchcase(delivery.queue or "", self.queue):
            return False
        return self.key is None or matches(self.key, delivery.routing_key)

    def decode(self, body: bytes) -> bytes:
        """Run the command on a body.

        Raises:
            CodecError: it failed, or took longer than 10 s. ConfigError: it may not be run.
        """
        if self.refusal is not None:
            raise ConfigError(f"decoder {self.name} is not run: {self.refusal}", hint="name the file with --bus-file")
        try:
            done = subprocess.run(  # noqa: S603 - the user's own command
                self.command,
                input=body,
                capture_output=True,
                timeout=DECODER_TIMEOUT_S,
                cwd=self.folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CodecError(f"decoder {self.name}: no result within {DECODER_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise CodecError(f"decoder {self.name}: {self.command[0]}: {error.strerror or error}") from None
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0][:_SAID_CHARACTERS]
            raise CodecError(f"decoder {self.name}: exit code {done.returncode}{f': {said}' if said else ''}")
        return done.stdout


class BusFile:
    """One bus file; the empty one where there is none. One without methods has those of the sample bus.

    Args:
        path: where it is; None: there is none.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        methods: Mapping[str, Callable[[], Method]] | None = None,
        schemas: Mapping[str, Callable[[], type]] | None = None,
        filters: Mapping[str, str] | None = None,
        decoders: Mapping[str, Decoder] | None = None,
        groups: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.path = path
        self.filters = dict(filters or {})
        """name -> jq."""
        self.decoders = dict(decoders or {})
        self.groups = dict(groups or {})
        """name -> queue names and globs."""
        self.has_methods = bool(methods)
        """Whether the methods are this file's own."""
        self._methods = dict(methods or {name: partial(_given, one) for name, one in METHODS.items()})
        self._schemas = dict(schemas or {})

    @property
    def method_names(self) -> list[str]:
        """The methods, in the order of the file; their schemas are not read for this."""
        return list(self._methods)

    @property
    def schema_names(self) -> list[str]:
        """The schemas, in the order of the file."""
        return list(self._schemas)

    def method(self, name: str) -> Method:
        """One method, with its schema read. Raises ConfigError when there is none, or its schema is wrong."""
        if name not in self._methods:
            raise _absent("method", name, self._methods)
        return self._methods[name]()

    def methods(self) -> dict[str, Method]:
        """All methods. Raises ConfigError."""
        return {name: self.method(name) for name in self._methods}

    def schema(self, name: str) -> type:
        """The TypedDict of a schema. Raises ConfigError when there is none, or it is wrong."""
        if name not in self._schemas:
            raise _absent("schema", name, self._schemas)
        return self._schemas[name]()

    def filter_named(self, text: str) -> str:
        """What stands behind `--where`: of `@NAME` the filter of that name, anything else as it is.

        Raises:
            ConfigError: there is no such filter.
        """
        if not text.startswith("@"):
            return text
        name = text[1:]
        if name not in self.filters:
            raise self._no_entry("filter", text, name, self.filters, "filters")
        return self.filters[name]

    def queues_named(self, text: str) -> list[str]:
        """What stands where queues are named: of `@NAME` the names and globs of that group, else the text alone.

        Raises:
            ConfigError: there is no such group.
        """
        if not text.startswith("@"):
            return [text]
        name = text[1:]
        if name not in self.groups:
            raise self._no_entry("group", text, name, self.groups, "groups")
        return self.groups[name]

    def decoder_for(self, delivery: Delivery) -> Decoder | None:
        """The first decoder that is for a message."""
        return next((decoder for decoder in self.decoders.values() if decoder.fits(delivery)), None)

    def _no_entry(self, kind: str, text: str, name: str, known: Mapping[str, object], table: str) -> ConfigError:
        if self.path is None:
            return ConfigError(
                f"{text}: there is no bus.toml here or above", hint="`busctl bus init` writes one, --bus-file names one"
            )
        error = _absent(kind, name, known)
        error.hint = error.hint or f"define it in [{table}] of {self.path}"
        return error


def _given(method: Method) -> Method:
    return method


def _absent(kind: str, name: str, known: Mapping[str, object]) -> ConfigError:
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}" if known else None
    return ConfigError(f"no {kind} {name!r}", hint=hint)
