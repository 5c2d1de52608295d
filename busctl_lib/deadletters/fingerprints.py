"""What dead letters have in common: one id for one cause, the same tomorrow and on another machine."""

from __future__ import annotations

import hashlib
import re

from busctl_lib.deadletters.dialects import Failure

_ID_BYTES = 5
_UUID = r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
_MASKS = (
    (re.compile(_UUID), "<id>"),
    (re.compile(r"\b[\w.+-]{1,64}@[\w-]+\.[\w.-]+\b"), "<address>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"(?<![A-Za-z<])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"), "<n>"),
)
# Nothing here looks beyond its line: a text of 100 KB, by whoever, takes no longer than it is long.
_PYTHON = re.compile(r'^[^\S\n]*File "(?P<file>[^"\n]+)", line \d+, in (?P<what>\S+)', re.MULTILINE)
_JAVA = re.compile(r"^[^\S\n]*at (?P<what>[\w$.<>/]+)\((?P<file>[^)\n]*)\)", re.MULTILINE)
_DOTNET = re.compile(r"^[^\S\n]*at (?P<what>[^\n(]+)\([^\n]*\)(?: in (?P<file>[^\n]+?):line \d+)?", re.MULTILINE)
_FOREIGN_FILES = ("site-packages", "dist-packages", "/lib/python", "<frozen", "busctl_lib/")
_FOREIGN_NAMES = (
    *("java.", "javax.", "jdk.", "sun.", "org.springframework.", "com.rabbitmq.", "reactor.", "kotlin."),
    *("System.", "Microsoft.", "MassTransit.", "NServiceBus.", "GreenPipes.", "RabbitMQ.", "Rebus."),
)


def mask(text: str) -> str:
    """Put placeholders for what differs between two failures of one cause: ids, numbers, times, addresses."""
    text = " ".join(text.split())
    for pattern, placeholder in _MASKS:
        text = pattern.sub(placeholder, text)
    return text


def own_frame(stack: str | None) -> str | None:
    """The innermost frame of the service itself, as `file:function`; of the libraries' if there is no other."""
    if not stack:
        return None
    python = [(found["file"], found["what"]) for found in _PYTHON.finditer(stack)]
    if python:
        own = [frame for frame in python if not any(part in frame[0] for part in _FOREIGN_FILES)]
        file, what = (own or python)[-1]
        return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{what}"
    frames = [found["what"].strip() for pattern in (_JAVA, _DOTNET) for found in pattern.finditer(stack)]
    own_frames = [what for what in frames if not what.startswith(_FOREIGN_NAMES)]
    return (own_frames or frames or [None])[0]


def fingerprint(failure: Failure) -> str:
    """The id of a failure's group: ten hex digits of what stays the same from one message to the next."""
    parts = (
        *(failure.reason, failure.queue, failure.exchange, failure.routing_key, failure.error_type),
        *(own_frame(failure.stack), mask(failure.error) if failure.error else None),
    )
    text = "\0".join("" if part is None else f"={part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: 2 * _ID_BYTES]


def cause(failure: Failure) -> str:
    """A failure in a few words, for a list."""
    said = mask(failure.error) if failure.error else ""
    kind = (failure.error_type or "").rpartition(".")[2]
    words = ": ".join(part for part in (kind, said) if part)
    if failure.reason in (None, "error"):
        return words or "no cause is told"
    return f"{failure.reason}: {words}" if words else failure.reason
