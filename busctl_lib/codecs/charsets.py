"""Character sets: what a message calls its own, and the text of bytes in one.

Only character sets are known here. Of what else Python calls an encoding (rot13, zip, idna, unicode_escape) nothing
is, whatever a message says.
"""

from __future__ import annotations

import codecs
import functools
import re

import msgspec

UTF8 = "utf-8"
MARKED = "-sig"
"""Stands behind the name of a character set whose text began with a byte-order mark, as in Python's `utf-8-sig`."""
_PARAMETER = re.compile(r"""(?:^|[;,\s])charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^;,\s]+))""", re.IGNORECASE)
_CHARSETS = re.compile(
    r"utf-8|utf-(16|32)(-[bl]e)?|iso8859-\d+|cp\d+|koi8-[rtu]|mac-[a-z0-9]+|shift_jis\w*|euc_\w+|iso2022_\w+|gb\w+"
    r"|big5\w*|hz|johab|tis-620|kz1048|ptcp154|hp-roman8"
)
_ALIASES = {
    "ascii": UTF8,  # of which it is a part, and what many call it who mean the whole
    "utf-8-sig": UTF8,
    "utf8mb4": UTF8,
    "unicode": "utf-16",
    "ucs-2": "utf-16",
    "iso-10646-ucs-2": "utf-16",
    "ucs-4": "utf-32",
    "windows-31j": "cp932",
}
_WIDER = {"shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "big5": "big5hkscs"}
"""What Windows writes under the name of a smaller character set. Source: https://encoding.spec.whatwg.org, labels."""
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAY_MARK = frozenset({0xEF, 0xFF, 0xFE, 0x00})
_SAMPLE = 512
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_WIDE = {
    b"\0\0\0\1": "utf-32-be",
    b"\1\0\0\0": "utf-32-le",
    b"\0\1\0\1": "utf-16-be",
    b"\1\0\1\0": "utf-16-le",
}
"""Which of the first four bytes are not zero, where the first two characters are of ASCII."""
_JSON_BEGINS = frozenset('{["')


def charset_parameter(content_type: str) -> str | None:
    """The `charset` of a content type, as it is written there."""
    found = _PARAMETER.search(content_type)
    return next((value.strip() for value in found.groups() if value is not None), None) if found else None


@functools.lru_cache(maxsize=256)
def charset_named(name: str) -> str | None:
    """The character set of a name, by the name that Python has for it; None where it names none."""
    name = name.strip().lower().replace("_", "-")
    try:
        found = codecs.lookup(_ALIASES.get(name) or name.removeprefix("x-").removesuffix("-i")).name
    except (LookupError, ValueError):
        return None
    found = _ALIASES.get(found, found)
    return found if _CHARSETS.fullmatch(found) else None


def read_text(data: bytes, charset: str | None = None, *, cut: bool = False) -> tuple[str, str] | None:
    """The text of bytes, and the character set it is in.

    Args:
        data: All of it, or (`cut`) its beginning.
        charset: What the message says it is; None: it says nothing, which is UTF-8 unless a byte-order mark, or JSON
            that is written in UTF-16 or UTF-32, says otherwise.
        cut: A character may be cut in two at the end.

    Returns:
        None where it is no text in that character set.
    """
    if data and data[0] in _MAY_MARK and (charset is None or charset.startswith("utf-")):
        marked = _read_marked(data, charset, cut)
        if marked is not None:
            return marked
    if charset is None and b"\0" in data[:4]:
        wide = _read_wide_json(data, cut)
        if wide is not None:
            return wide
    codec = charset or UTF8
    if codec in ("utf-16", "utf-32"):
        codec += _order(data, 2 if codec == "utf-16" else 4)
    for name in (codec, _WIDER.get(codec)):
        text = _decode(data, name, cut) if name is not None else None
        if name is not None and text is not None:
            return text, name
    return None


def write_text(text: str, charset: str) -> bytes:
    """Undo `read_text`. Raises UnicodeEncodeError where the character set lacks a character."""
    codec = charset.removesuffix(MARKED)
    mark = next(mark for mark, marked in _MARKS if marked == codec) if codec != charset else b""
    return mark + text.encode(codec)


def _decode(data: bytes, codec: str, cut: bool) -> str | None:
    try:
        if cut:
            return codecs.getincrementaldecoder(codec)().decode(data)
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _read_marked(data: bytes, charset: str | None, cut: bool) -> tuple[str, str] | None:
    for mark, codec in _MARKS:
        if data.startswith(mark):
            text = _decode(data[len(mark) :], codec, cut)
            if text is not None and (codec == UTF8 or charset is not None or _is_likely(text)):
                return text, codec + MARKED
    return None


def _is_likely(text: str) -> bool:
    """Whether bytes that begin like a byte-order mark are text, though nothing says so: JSON, or mostly of ASCII."""
    if _CONTROLS.search(text):
        return False
    return sum(map(str.isascii, text)) * 2 > len(text) or _is_json(text)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _read_wide_json(data: bytes, cut: bool) -> tuple[str, str] | None:
    """JSON in UTF-16 or UTF-32 without a mark, told by its first characters. Source: RFC 4627, section 3."""
    codec = _WIDE.get(bytes(map(bool, data[:4])))
    text = _decode(data, codec, cut) if codec is not None else None
    if codec is None or text is None or text.lstrip()[:1] not in _JSON_BEGINS:
        return None
    return (text, codec) if cut or _is_json(text) else None


def _order(data: bytes, width: int) -> str:
    """The order of bytes where neither name nor mark tells it: that which makes most characters Western ones."""
    sample = data[:_SAMPLE]
    big, little = (sample[place::width].count(0) for place in (0, width - 1))
    return "-le" if little > big else "-be"
