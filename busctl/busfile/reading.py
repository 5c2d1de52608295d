"""Find and read a bus file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import msgspec.inspect

from busctl.busfile.model import BusFile, Decoder
from busctl.busfile.tables import DecoderTable, FileTable, MethodTable
from busctl.tomlfile import Source, read_text
from busctl.views.formats import parse_duration
from busctl_lib.errors import ConfigError
from busctl_lib.json_schema import defaults_of, help_of, typed_dict
from busctl_lib.methods import Method
from busctl_lib.validation import fields_of, nearest

FILE_NAME = "bus.toml"
RESERVED = ("call", "list", "mock", "spy")
"""What `busctl rpc` has as words of its own."""
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_TABLES: dict[str, Any] = {
    "methods": MethodTable,
    "schemas": str,
    "filters": str,
    "decoders": DecoderTable,
    "groups": list[str],
}
"""What each entry of a table is."""


def find(folder: Path | None = None) -> Path | None:
    """Look for a bus file in a folder (the working one), then upwards."""
    start = (folder or Path.cwd()).absolute()
    return next((path for at in (start, *start.parents) if (path := at / FILE_NAME).is_file()), None)


def load(path: Path | None = None) -> BusFile:
    """Read a bus file.

    Args:
        path: the one that was named; None: the nearest, and the empty one where there is none. One that was found and
            belongs to somebody else is read, but its commands and Python modules are not run.

    Raises:
        ConfigError: file, line, key and the nearest right key.
    """
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"no bus file {path}", hint="`busctl bus init` writes one", path=str(path))
        return parse(read_text(path), path)
    found = find()
    return BusFile() if found is None else parse(read_text(found), found, refusal=_refusal(found))


def _refusal(path: Path) -> str | None:
    owner = path.stat().st_uid
    return None if owner in (os.geteuid(), 0) else f"{path} belongs to another user"


def parse(text: str, path: Path, *, refusal: str | None = None) -> BusFile:
    """Read the text of a bus file.

    Args:
        text: the text.
        path: where it is from, for errors and for the paths in it.
        refusal: why nothing of it is run; None: it may be.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", path=str(path)) from error
    source = Source(path, text)
    source.check_keys(raw, _TABLES, ())
    tables = {table: _entries(source, raw.get(table, {}), table, kind) for table, kind in _TABLES.items()}
    return _Reader(source, path, FileTable(**tables), refusal).read()


def _entries(source: Source, given: object, table: str, kind: Any) -> dict[str, Any]:
    """Read a table of named entries, one by one, so that a mistake is told at its own."""
    entries = source.convert(given, dict[str, Any], (table,))
    for name, entry in entries.items():
        if isinstance(entry, dict) and hasattr(kind, "__struct_fields__"):
            source.check_keys(entry, kind.__struct_fields__, (table, name))
    return {name: source.convert(entry, kind, (table, name)) for name, entry in entries.items()}


def _constants(request: type | None) -> dict[str, Any]:
    """The fields of which a schema allows one value only."""
    fields = fields_of(request).values() if request is not None else ()
    kinds = {field.name: field.type for field in fields if field.required}
    found = {name: kind.values for name, kind in kinds.items() if isinstance(kind, msgspec.inspect.LiteralType)}
    return {name: values[0] for name, values in found.items() if len(values) == 1}


class _Reader:
    def __init__(self, source: Source, path: Path, table: FileTable, refusal: str | None) -> None:
        self._source = source
        self._path = path
        self._table = table
        self._refusal = refusal
        self._schemas = {name: functools.cache(functools.partial(self._schema, name)) for name in table.schemas}

    def read(self) -> BusFile:
        """Check everything that needs no other file, and make the bus file of it."""
        table = self._table
        for kind in FileTable.__struct_fields__:
            self._check_names(kind, getattr(table, kind))
        for name, text in table.filters.items():
            self._check_jq(text, ("filters", name))
        self._check_schemas()
        methods = {name: self._checked_method(name, one) for name, one in table.methods.items()}
        return BusFile(
            self._path,
            methods=methods,
            schemas=self._schemas,
            filters=table.filters,
            decoders={name: self._decoder(name, one) for name, one in table.decoders.items()},
            groups=table.groups,
        )

    # -- checks

    def _fail(self, at: tuple[str, ...], text: str, hint: str | None = None) -> NoReturn:
        raise self._source.error(at, f"{'.'.join(at)}: {text}", hint)

    def _check_names(self, kind: str, entries: Mapping[str, object]) -> None:
        for name in entries:
            if not _NAME.fullmatch(name):
                self._fail((kind, name), f"{name!r} cannot be a name", "use letters, digits and _ . -")
            if kind == "methods" and name in RESERVED:
                hint = f"`busctl rpc {name}` is a command: choose another name"
                self._fail((kind, name), f"{name!r} is a reserved word", hint)

    def _check_jq(self, text: str, at: tuple[str, ...]) -> None:
        from busctl_lib.expressions import Expression

        try:
            Expression(text, ".".join(at))
        except ConfigError as error:  # what is wrong, after its name
            self._fail(at, str(error).removeprefix(f"{'.'.join(at)}: "), error.hint)

    def _check_schemas(self) -> None:
        for name, text in self._table.schemas.items():
            if not text.endswith(".json") and ":" not in text:
                hint = "write FILE.json, FILE.py:CLASS or MODULE:CLASS"
                self._fail(("schemas", name), f"{text!r} names neither a JSON Schema file nor a TypedDict", hint)

    def _duration(self, text: str | None, at: tuple[str, ...]) -> float | None:
        try:
            return None if text is None else parse_duration(text)
        except ValueError as error:
            self._fail(at, str(error))

    # -- methods

    def _checked_method(self, name: str, table: MethodTable) -> Callable[[], Method]:
        at = ("methods", name)
        if (table.queue is None) == (table.exchange is None):
            hint = 'queue = "NAME", or exchange = "NAME" and key = "KEY"'
            self._fail(at, "it needs a queue or an exchange" + ", not both" * (table.queue is not None), hint)
        if table.key is not None and table.exchange is None:
            self._fail((*at, "key"), "a key goes with an exchange")
        if table.request is not None and table.arguments is not None:
            self._fail((*at, "arguments"), "a request schema has its arguments itself", "keep one of the two")
        for key in ("request", "reply"):
            wanted = getattr(table, key)
            if wanted is not None and wanted not in self._schemas:
                near = nearest(wanted, self._schemas)
                hint = f"did you mean {near}?" if near else "name it in [schemas]"
                self._fail((*at, key), f"no schema {wanted!r}", hint)
        if (table.replies == "shared" or table.reply_queue is not None) and not (
            table.reply_queue is not None and table.replies in (None, "shared")
        ):
            self._fail((*at, "replies"), 'reply_queue names the queue of replies = "shared", and goes with it only')
        if table.error is not None:
            self._check_jq(table.error, (*at, "error"))
        timeout_s = self._duration(table.timeout, (*at, "timeout"))
        arguments = self._arguments(name, table)
        if table.body == "text" and (len(fields_of(arguments)) if arguments else 0) + len(table.fixed) > 1:
            self._fail((*at, "body"), "a text body has one argument, and no fixed fields")
        return functools.cache(functools.partial(self._method, name, table, arguments, timeout_s))

    def _method(self, name: str, table: MethodTable, arguments: type | None, timeout_s: float | None) -> Method:
        schema = self._argument_schema(table)
        request = self._schemas[table.request]() if table.request is not None else arguments
        defaults, helps = defaults_of(schema), help_of(schema)
        if table.request is not None and table.request in self._schemas:
            described = self._json_of(table.request)
            defaults, helps = defaults_of(described), help_of(described)
        return Method(
            name,
            (table.key or "") if table.exchange is not None else (table.queue or ""),
            request,
            self._schemas[table.reply]() if table.reply is not None else None,
            table.help,
            exchange=table.exchange or "",
            fixed=_constants(request) | table.fixed,
            defaults=defaults,
            argument_help=helps,
            body=table.body,
            reply_body=table.reply_body,
            replies=table.replies or ("shared" if table.reply_queue is not None else "auto"),
            reply_queue=table.reply_queue,
            error=table.error,
            timeout_s=timeout_s,
        )

    def _argument_schema(self, table: MethodTable) -> dict[str, Any]:
        """The arguments as the JSON Schema they nearly are."""
        properties: dict[str, Any] = {}
        required = []
        for name, given in (table.arguments or {}).items():
            of = {"type": given} if isinstance(given, str) else dict(given) if isinstance(given, dict) else given
            if isinstance(of, dict):
                if "help" in of:
                    of["description"] = of.pop("help")
                if not of.pop("optional", False) and "default" not in of:
                    required.append(name)
            properties[name] = of
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _arguments(self, name: str, table: MethodTable) -> type | None:
        if table.arguments is None:
            return None
        at = ("methods", name, "arguments")
        schema = self._argument_schema(table)
        schema["properties"] |= {key: {} for key in table.fixed}
        try:
            made = typed_dict(name, schema)
        except ConfigError as error:
            steps = error.facts["pointer"].removeprefix("#/properties/").split("/")
            where = [step.replace("description", "help") for step in steps if step != "#"]
            text = str(error).partition(": ")[2]
            self._fail((*at, *where), text, error.hint)
        for field, value in defaults_of(schema).items():
            try:
                msgspec.convert({field: value}, dict[str, made.__annotations__[field].__args__[0]])  # type: ignore[misc]
            except msgspec.ValidationError as error:
                self._fail((*at, field, "default"), str(error).partition(" - at ")[0].lower())
        return made

    # -- schemas

    def _schema(self, name: str) -> type:
        text = self._table.schemas[name]
        if text.endswith(".json"):
            try:
                return typed_dict(name, self._json_of(name))
            except ConfigError as error:
                if "pointer" not in error.facts:
                    raise
                raise ConfigError(f"{self._path.parent / text}, {error}", hint=error.hint) from error
        return self._typed_dict(name, text)

    def _json_of(self, name: str) -> Any:
        text = self._table.schemas[name]
        if not text.endswith(".json"):
            return {}
        file = self._path.parent / text
        try:
            return json.loads(file.read_bytes())
        except OSError as error:
            self._fail(("schemas", name), f"cannot read {file}: {error.strerror or error}")
        except ValueError as error:
            raise ConfigError(f"{file} is not JSON: {error}") from error

    def _typed_dict(self, name: str, text: str) -> type:
        at = ("schemas", name)
        if self._refusal is not None:
            self._fail(at, f"Python of it is not run: {self._refusal}", "name the file with --bus-file")
        place, _, wanted = text.rpartition(":")
        try:
            module = self._module(place)
        except Exception as error:  # noqa: BLE001 - somebody's module: whatever it raises is told
            self._fail(at, f"{place} cannot be imported: {type(error).__name__}: {error}")
        found = getattr(module, wanted, None)
        if not (isinstance(found, type) and hasattr(found, "__required_keys__")):
            known = [key for key, value in vars(module).items() if hasattr(value, "__required_keys__")]
            near = nearest(wanted, known)
            self._fail(at, f"{place} has no TypedDict {wanted!r}", f"did you mean {near}?" if near else None)
        return found

    def _module(self, place: str) -> Any:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        file = (self._path.parent / place).resolve()
        name = f"busctl_bus_file_{abs(hash(file)):x}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is not a Python file")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    # -- the rest

    def _decoder(self, name: str, table: DecoderTable) -> Decoder:
        at = ("decoders", name)
        try:
            command = shlex.split(table.command) if isinstance(table.command, str) else table.command
        except ValueError as error:
            self._fail((*at, "command"), f"it cannot be split into words: {error}")
        if not command:
            self._fail((*at, "command"), "it is empty")
        if table.content_type is None and table.queue is None and table.key is None:
            self._fail(at, "it says not what it is for", "add content_type, queue or key")
        return Decoder(
            name=name,
            command=command,
            content_type=table.content_type,
            queue=table.queue,
            key=table.key,
            folder=str(self._path.parent),
            refusal=self._refusal,
        )
