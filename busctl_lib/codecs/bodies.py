"""Body: a message's body as it is read: what is shown of it is what is filtered and what is edited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from busctl_lib.codecs import kinds
from busctl_lib.codecs.charsets import UTF8, read_text, write_text
from busctl_lib.codecs.json import decode_json
from busctl_lib.codecs.keyrings import Keyring
from busctl_lib.codecs.pipeline import KOMBU_HEADER, LIMIT_BYTES, charset_of, decode_body, redone, steps_named, undone
from busctl_lib.envelope import Envelope
from busctl_lib.errors import CodecError

NOT_JSON: Any = object()
"""The value of a body that is no JSON."""
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_NOTHING, _VALUE, _ALL = frozenset[str](), frozenset({"body"}), frozenset({"body", "text"})
_NAMELESS = "no text, and of no format known here"
_MARK = "\ufeff"
_JSON_BEGINS = ("{", "[")
_decode = msgspec.json.decode


class Body:
    """The body of a message, read by what the message says of it. It never raises: what could not be read says why.

    Args:
        envelope: Stays as it is.
        keys: To decrypt with.
        limit: Bytes that may come out of any step.
        size: Of the whole body, where the envelope has only the beginning of it.
    """

    steps: Sequence[str] = ()
    """What was done to the body, in order."""
    layers: Sequence[bytes] = ()
    undecoded: str | None = None
    """Why the steps could not be undone."""
    text: str | None = None
    """None: it is no text, or that is not known."""
    charset: str | None = None
    """What the text is written in; with `-sig` behind it where it begins with a byte-order mark."""
    _value: Any = NOT_JSON
    _why: str | None = None
    _is_parsed = False
    _is_said_wrong = False
    """Whether it says that it is text, and the text could not be read."""

    def __init__(
        self, envelope: Envelope, *, keys: Keyring | None = None, limit: int = LIMIT_BYTES, size: int | None = None
    ) -> None:
        self.envelope = envelope
        self.data = envelope.body
        """The message's own bytes; those on the wire where steps could not be undone."""
        self.is_cut = size is not None and size != len(envelope.body)
        properties = envelope.properties
        if properties.content_encoding is not None or (properties.headers and KOMBU_HEADER in properties.headers):
            self.steps = steps_named(properties)
            if self.steps:
                self._undo(keys, limit)
        if self.undecoded is None:
            self._read()

    def _undo(self, keys: Keyring | None, limit: int) -> None:
        if self.is_cut:
            seen = len(self.envelope.body)
            self.undecoded = f"encoded ({','.join(self.steps)}), and only {seen} bytes of it were seen"
            return
        try:
            self.layers = undone(self.envelope, keys=keys, limit=limit)
        except CodecError as error:
            self.undecoded = str(error)
        else:
            self.data = self.layers[-1]

    def _read(self) -> None:
        charset, said = charset_of(self.envelope.properties)
        if (said is None or charset == UTF8) and (text := _plain_utf8(self.data)) is not None:
            self.text, self.charset = text, UTF8
            return
        section = kinds.section_of(self.data, self.envelope.properties.type)
        if said is not None and charset is None:
            self._why, self._is_said_wrong = f"unknown character set {said!r:.40}", True
        elif section is not None:
            self._why = section
        elif (found := read_text(self.data, charset, cut=self.is_cut)) is not None:
            self.text, self.charset = found
        elif said is not None and charset != UTF8:
            self._why, self._is_said_wrong = f"no text in {said}, though it says so", True

    @property
    def value(self) -> Any:
        """The JSON value; NOT_JSON where it is none, or was not read."""
        if not self._is_parsed:
            self._is_parsed = True
            self._why = self._why or self._parse()
        return self._value

    @property
    def why(self) -> str | None:
        """Why there is no JSON value; None where there is one."""
        _ = self.value
        return self._why

    @property
    def is_told(self) -> bool:
        """Whether the reason for that is worth a word: it is bytes, or says that it is something else than it is."""
        content_type = (self.envelope.properties.content_type or "").lower()
        return self.why is not None and (self.text is None or "json" in content_type or self._kind() is not None)

    @property
    def is_known(self) -> bool:
        """Whether what has no text has a name all the same: its format, or what it was said to be."""
        return self.text is None and self.why != _NAMELESS

    @property
    def hidden(self) -> frozenset[str]:
        """Which fields of its document are not known, and therefore absent: a filter cannot decide by them.

        Of bytes that are no text it is known that there is no `text`.
        """
        if self.why is None:
            return _NOTHING
        return _ALL if self.undecoded is not None or self.is_cut or self._is_said_wrong else _VALUE

    @property
    def printed(self) -> str:
        """The text; of bytes those that are text, the others written out."""
        return self.data.decode("utf-8", "backslashreplace") if self.text is None else self.text

    @property
    def utf8(self) -> bytes:
        """The text in UTF-8."""
        assert self.text is not None
        return self.data if self.charset == UTF8 else self.text.encode("utf-8", "surrogatepass")

    @property
    def decoded(self) -> list[str]:
        """What was undone, in the order it was done: a character set other than UTF-8, then the steps."""
        if self.undecoded is not None or (self.charset == UTF8 and not self.steps):
            return []
        return [*([self.charset] if self.charset not in (None, UTF8) else []), *self.steps]

    def rewritten(self, text: str) -> bytes:
        """The body that has another text, in JSON, in the same character set and compressed in the same ways.

        Raises:
            CodecError: it cannot have one, and why.
        """
        if self.text is None or self.charset is None:
            raise CodecError(self.why or "it is no text")
        try:
            data = write_text(text, self.charset)
        except UnicodeEncodeError:
            data = write_text(_NOT_ASCII.sub(_escaped, text), self.charset)
        return redone([self.envelope.body, *self.layers][: len(self.steps)], self.steps, data)

    def _kind(self) -> str | None:
        content_type = self.envelope.properties.content_type
        if self.text is None:
            return kinds.kind_of_bytes(self.data, content_type)
        return kinds.kind_of_text(self.text, content_type)

    def _parse(self) -> str | None:
        """Parse strict JSON, without what no Python value can hold (1e400, a thousand brackets); or say why not."""
        if self.undecoded is not None:
            return self.undecoded
        if self.is_cut:
            return f"only {len(self.envelope.body):,} bytes of it were seen"
        if self.text is None:
            return self._kind() or _NAMELESS
        looks_like_json = self.text[:1] in _JSON_BEGINS
        if not looks_like_json and (kind := kinds.kind_of_type(self.envelope.properties.content_type)):
            return kind
        try:
            self._value = _decode(self.text)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            if not self.text:
                return "empty"
            said = f"not JSON: {str(error).removeprefix('JSON is malformed: ')}" if looks_like_json else "not JSON"
            return self._kind() or said
        return None


def read_json(envelope: Envelope, *, keys: Keyring | None = None, limit: int = LIMIT_BYTES) -> Any:
    """The JSON value of a message, in whatever character set it says it is.

    Raises:
        CodecError: its steps cannot be undone (as `decode_body`), or it is no JSON.
    """
    data = decode_body(envelope, keys=keys, limit=limit)
    charset, said = charset_of(envelope.properties)
    if said is not None and charset is None:
        raise CodecError(f"the body is not JSON: unknown character set {said!r:.40}")
    found = None if charset in (None, UTF8) and _plain_utf8(data) is not None else read_text(data, charset)
    return decode_json(data if found is None else found[0].encode())


def _plain_utf8(data: bytes) -> str | None:
    """The rule, and quickly known: text in UTF-8 without a mark, and no other coding that looks like it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if text[:1] == _MARK or "\0" in text[:2] else text


def _escaped(match: re.Match[str]) -> str:
    """A character as JSON can write it in ASCII."""
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
