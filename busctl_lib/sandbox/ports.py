"""Free ports of the loopback interface."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass, fields
from typing import Self

LOOPBACK = "127.0.0.1"

# Below the range from which the system takes ports for outgoing connections (Linux from 32768, macOS from 49152):
# what is free now is then still free when the node comes to it some seconds later.
_RANGE = range(12000, 32000)


@dataclass(frozen=True)
class Ports:
    """What one node listens on."""

    amqp: int
    api: int
    prometheus: int
    stream: int
    dist: int

    @classmethod
    def free(cls) -> Self:
        """Choose ports that nobody listens on at this moment."""
        names = [field.name for field in fields(cls)]
        return cls(**dict(zip(names, free_ports(len(names)), strict=True)))


def free_ports(count: int) -> list[int]:
    """Choose this many ports that nobody listens on at this moment. They are not reserved."""
    free: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if len(free) == count:
            break
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            free.append(port)
    return free


def accepts(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((LOOPBACK, port)) == 0
