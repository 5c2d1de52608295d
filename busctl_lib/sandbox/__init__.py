"""A RabbitMQ node of one's own: for the demo, for tests, for the tests of those who use the library.

::

    private_broker.py   PrivateBroker: start, stop, kill, restart, cluster
    node_folder.py      what the node's folder holds: identity, configuration, log
    installation.py     where rabbitmq-server is on this machine, and how its scripts are called
    epmd.py             Erlang's name server, one per node or cluster
    ports.py            free ports of the loopback interface
    guarded.py          a process that never outlives its owner, and the reaping of those that did
    guardian.py         the small program between owner and process that sees to it
"""

from busctl_lib.sandbox.private_broker import PrivateBroker

__all__ = ["PrivateBroker"]
