"""Whether the broker lets this user do something, tried by requests that change nothing whatever the answer.

What is asked to be undone is not there (a binding of an unheard-of key), or the request has an argument of a wrong
type: RabbitMQ looks at the user's rights before it finds that out (run on 3.10.8, 4.0.5 and 4.3.6).
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

from busctl_lib.amqp.channels import Channel
from busctl_lib.amqp.link import Link
from busctl_lib.errors import AccessForbidden, BrokerRefused

Verb = Literal["configure", "write", "read"]
Kind = Literal["queue", "exchange"]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One right: to configure, write or read a queue or an exchange, as RabbitMQ has them."""

    verb: Verb
    kind: Kind
    name: str
    """"amq.default" is the default exchange."""
    routing_key: str | None = None
    """To read a topic exchange: the key of the binding, which topic permissions may narrow."""
    shown: str | None = None
    """How it is named to people, where `name` is one of many that are made up."""

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.shown or self.name}"


def new_name(verb: Verb, prefix: str, kind: Kind = "queue") -> Need:
    """The right to what has a name that is yet to be made up: this prefix and 16 hexadecimal digits."""
    return Need(verb=verb, kind=kind, name=prefix + secrets.token_hex(8), shown=f"{prefix}*")


def granted(link: Link, need: Need, timeout: float = 10.0) -> bool | None:
    """Try whether the link's user has a right; None where no try tells.

    Raises:
        CannotConnect, TimedOut: nothing could be tried.

    Effect: nothing; an answer by an error (all refusals, and what is granted but to write, or to read an exchange)
    leaves a line in the broker's log.
    """
    return link.run(lambda: link.with_channel(lambda channel: _granted(channel, need)), timeout)


async def _granted(channel: Channel, need: Need) -> bool | None:
    try:
        await _TRIES[need.verb, need.kind](channel, need)
    except AccessForbidden as error:
        # "access to exchange 'x' in vhost 'v' refused for user 'u'", from 4.0 with the verb before it
        refused = error.text.partition("access to ")[2]
        if need.verb == "write":  # what is taken apart has a source too, which is looked at after it
            return refused.startswith(f"exchange '{_source(need)}'")
        return None if refused.startswith("queue") and need.kind == "exchange" else False
    except BrokerRefused:  # of the wrong argument, or of what is not there: the rights were looked at before
        return True
    return True


def _source(need: Need) -> str:
    """An exchange that every virtual host has, and another one than what is asked about."""
    return "amq.fanout" if need.name == "amq.direct" else "amq.direct"


async def _configure_queue(channel: Channel, need: Need) -> None:
    await channel.ask("queue_declare", need.name, durable=True, arguments={"x-expires": "no number"})


async def _configure_exchange(channel: Channel, need: Need) -> None:
    await channel.ask("exchange_declare", need.name, durable=True, arguments={"alternate-exchange": 1})


async def _write_queue(channel: Channel, need: Need) -> None:
    await channel.ask("queue_unbind", need.name, _source(need), secrets.token_hex(16))


async def _write_exchange(channel: Channel, need: Need) -> None:
    await channel.ask("exchange_unbind", need.name, _source(need), secrets.token_hex(16))


async def _read_queue(channel: Channel, need: Need) -> None:
    await channel.ask("basic_consume", need.name, lambda *_: None, arguments={"x-priority": "no number"})


async def _read_exchange(channel: Channel, need: Need) -> None:
    nowhere = new_name("write", "busctl.tap.").name
    key = need.routing_key if need.routing_key is not None else secrets.token_hex(16)
    await channel.ask("queue_unbind", nowhere, need.name, key)


_TRIES = {
    ("configure", "queue"): _configure_queue,
    ("configure", "exchange"): _configure_exchange,
    ("write", "queue"): _write_queue,
    ("write", "exchange"): _write_exchange,
    ("read", "queue"): _read_queue,
    ("read", "exchange"): _read_exchange,
}
