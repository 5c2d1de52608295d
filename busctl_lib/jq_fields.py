"""Which fields of its input a jq expression can read, where that is certain: it need be given no others.

Only a part of jq is understood: paths, constants, operators and parentheses, and behind a pipe anything, because what
stands there sees a part of the input only. Of all else nothing is claimed. Source: jq's manual, "Basic filters".
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:[^"\\]|\\.)*")
    | \.(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<index>\[\s*(?:"(?:[^"\\]|\\.)*"|-?\d+)?\s*\]\??)
    | (?P<word>[A-Za-z_][\w:]*)
    | (?P<operator>==|!=|<=|>=|//(?!=)|[<>+\-*/%,](?!=)|\?(?!//))
    | (?P<open>\()
    | (?P<close>\))
    | (?P<pipe>\|(?!=))
    | (?P<comment>\#)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.ASCII,
)
_CONSTANTS = ("and", "or", "true", "false", "null")
_TERMS = ("path", "index", "close")
"""What may be followed by a path or an index into its value."""


def fields_read(expression: str) -> frozenset[str] | None:
    """The top-level fields of its input that the expression may read; None where it may read any."""
    if "\\(" in expression:  # an expression within a string
        return None
    found: set[str] = set()
    piped = [False]  # of each open parenthesis: whether a pipe came in it, behind which the input is not seen
    before = ""
    for match in _TOKEN.finditer(expression):
        kind = match.lastgroup or ""
        if kind == "open":
            piped.append(piped[-1])
        elif kind == "close" and len(piped) > 1:
            piped.pop()
        elif kind == "pipe":
            piped[-1] = True
        elif kind == "path" and not piped[-1]:
            found.update([match["path"].partition(".")[0]] if before not in _TERMS else [])
        elif kind in ("close", "comment") or not (piped[-1] or _is_harmless(kind, match[kind], before)):
            return None
        before = kind
    return frozenset(found) if len(piped) == 1 else None


def _is_harmless(kind: str, text: str, before: str) -> bool:
    """Whether a token other than a path cannot read the input."""
    if kind == "index":
        return before in _TERMS  # else it makes an array
    return kind in ("string", "number", "operator") or (kind == "word" and text in _CONSTANTS)
