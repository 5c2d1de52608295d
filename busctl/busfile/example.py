"""A bus file to begin with: what a live broker has, written down with comments."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from busctl_lib.dead_names import is_dead_letter_queue
from busctl_lib.management import BindingInfo, ExchangeInfo, QueueInfo

_REQUESTS = re.compile(r"(^|[._-])(rpc|req|requests?|calls?|commands?)($|[._-])", re.IGNORECASE)
_RESPONSES = re.compile(r"(^|[._-])(res|resp|responses?|repl(y|ies)|results?)($|[._-])", re.IGNORECASE)
_NOT_OURS = re.compile(r"^(amq\.|busctl\.)")
_MOST = 12
_HEAD = """\
# The bus file: what `busctl` should know of this bus. Keep it beside the code; it is found from here and from every
# folder below. Written from vhost {vhost} of {about}.
# Lines that begin with #key or #[table] are examples: take the # away. `busctl bus check` tells what is wrong.
"""
_METHODS = """
# --- RPC methods: `busctl rpc NAME ARGS`, `busctl rpc list`, `busctl rpc mock NAME --echo`

# A method is a queue, or an exchange and a key. Without `arguments` any body goes.
"""
_METHOD = """
#[methods.{name}]
#queue = {queue}
#help = "what it does"
#fixed = {{ action = {action} }}         # fields that every request has
#timeout = "5s"
#error = ".body.error"                   # jq over the reply: what it gives is the error of a request that failed
#{replies}
#[methods.{name}.arguments]                # in the order in which they are typed
#symbol = {{ type = "string", minLength = 1, help = "what to look at" }}
#depth = {{ type = "integer", minimum = 1, default = 10 }}
#side = {{ enum = ["buy", "sell"], optional = true }}
"""
_SCHEMAS = """
# --- Schemas of messages: JSON Schema files, or TypedDicts of a Python file or module.
# A method may take one in place of its arguments: request = "order"

#[schemas]
#order = "schemas/order.json"
#trade = "messages.py:TradeMessage"
"""
_FILTERS = """
# --- Named filters, in jq over the document of a message: `busctl tail QUEUE --where @failed`

[filters]
failed = '.headers["busctl-error"] != null'
died = '(.deaths | length) > 0'
#large = '.size > 100000'
"""
_DECODERS = """
# --- Decoders: commands that make bodies readable; a body on standard input, JSON or text on standard output

#[decoders.orders]
#content_type = "application/x-protobuf"    # a glob; also: queue (a glob), key (a topic pattern)
#command = "protoc --decode=trading.Order order.proto"
"""


def write(
    queues: Sequence[QueueInfo],
    exchanges: Sequence[ExchangeInfo],
    bindings: Sequence[BindingInfo],
    *,
    vhost: str,
    about: str,
) -> str:
    """Write a bus file that names what there is; it is valid as it is, and with all its examples switched on.

    Args:
        queues, exchanges, bindings: of one vhost.
        vhost: its name.
        about: which broker it was, without credentials.
    """
    lasting = [info for info in queues if not info.exclusive and not _NOT_OURS.match(info.name)]
    names = sorted(info.name for info in lasting)
    parts = [_HEAD.format(vhost=_comment(vhost), about=_comment(about))]
    parts.append(_METHODS)
    parts += _methods(names)
    parts += [_topology(exchanges, bindings), _SCHEMAS, _FILTERS, _DECODERS, _groups(names)]
    return "".join(parts)


def _methods(names: Sequence[str]) -> Iterable[str]:
    requests = (
        [name for name in names if _REQUESTS.search(name) and not is_dead_letter_queue(name)]
        or list(names[:1])
        or ["requests"]
    )
    responses = [name for name in names if _RESPONSES.search(name)]
    for number, queue in enumerate(requests[:_MOST]):
        word = f"{_word(queue)}_{number}" if len({_word(one) for one in requests}) < len(requests) else _word(queue)
        reply_queue = _partner(queue, responses)
        replies = (
            f"reply_queue = {_string(reply_queue)}        # replies are matched there; without it they come directly"
            if reply_queue is not None
            else 'replies = "direct"                    # or queue, or by a reply_queue that others read as well'
        )
        yield _METHOD.format(name=f"ask_{word}", queue=_string(queue), action=_string(word), replies=replies)


def _partner(queue: str, responses: Sequence[str]) -> str | None:
    stem = _REQUESTS.sub("", queue)
    return next((name for name in responses if stem and _RESPONSES.sub("", name) == stem), None)


def _topology(exchanges: Sequence[ExchangeInfo], bindings: Sequence[BindingInfo]) -> str:
    """What methods by exchange and key could use, as comments."""
    keys = defaultdict(set)
    for found in bindings:
        if found.source and not _NOT_OURS.match(found.destination):
            keys[found.source].add(found.routing_key)
    named = [info for info in exchanges if info.name and not _NOT_OURS.match(info.name)]
    if not named:
        return ""
    lines = ["\n# The exchanges, for methods by exchange and key:\n"]
    for info in named[:_MOST]:
        shown = ", ".join(_string(key) for key in sorted(keys[info.name])[:_MOST]) or "nothing"
        lines.append(f"#   {_comment(info.name)} ({_comment(info.type or '?')}), bound by {shown}\n")
    return "".join(lines)


def _groups(names: Sequence[str]) -> str:
    by_head = defaultdict(list)
    for name in names:
        head = re.split(r"[._-]", name)[0]
        by_head[_word(head)].append(name)
    groups = {head: found for head, found in by_head.items() if len(found) > 1}
    lines = ["\n# --- Groups of queues, by names and globs: @NAME where queues are named\n\n[groups]\n"]
    for head, found in sorted(groups.items())[:_MOST]:
        lines.append(f"{head} = [{', '.join(_string(name) for name in found)}]\n")
    return "".join(lines) + ("" if groups else '#all = ["*"]\n')


def _word(name: str) -> str:
    """A name that needs no quotes in TOML, whatever a queue is called."""
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    return word if word[:1].isalpha() else f"queue_{word}".rstrip("_")


def _string(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """Foreign text inside a comment: on one line, with nothing in it that a terminal acts on."""
    return _string(text)[1:-1]
