"""The tables of a bus file as they are written; what they mean is made of them in `reading`."""

from __future__ import annotations

from typing import Any

import msgspec

from busctl_lib.methods import BodyKind, Replies


class MethodTable(msgspec.Struct, kw_only=True):
    """`[methods.NAME]`."""

    queue: str | None = None
    exchange: str | None = None
    key: str | None = None
    """The routing key, with an exchange."""
    help: str = ""
    request: str | None = None
    """The name of a schema; instead of `arguments`."""
    arguments: dict[str, Any] | None = None
    """name = "string", or a table: type, help, optional, default and the keywords of JSON Schema."""
    reply: str | None = None
    fixed: dict[str, Any] = {}
    """Fields that every request has: `{ action = "get_orderbook" }`."""
    body: BodyKind = "json"
    reply_body: BodyKind = "json"
    replies: Replies | None = None
    reply_queue: str | None = None
    error: str | None = None
    """jq over the reply's document."""
    timeout: str | None = None


class DecoderTable(msgspec.Struct, kw_only=True):
    """`[decoders.NAME]`."""

    command: str | list[str]
    """Gets a body on its standard input and writes JSON or text; run without a shell, in the bus file's folder."""
    content_type: str | None = None
    """A glob."""
    queue: str | None = None
    """A glob."""
    key: str | None = None
    """A routing key, or a topic pattern."""


class FileTable(msgspec.Struct, kw_only=True):
    """The whole file."""

    methods: dict[str, MethodTable] = {}
    schemas: dict[str, str] = {}
    """name = a JSON Schema file, or FILE.py:CLASS or MODULE:CLASS of a TypedDict; paths from the bus file."""
    filters: dict[str, str] = {}
    """name = jq."""
    decoders: dict[str, DecoderTable] = {}
    groups: dict[str, list[str]] = {}
    """name = queue names and globs."""
