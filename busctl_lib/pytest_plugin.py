"""pytest fixtures for suites that need a real RabbitMQ: a private broker a session, a virtual host a test.

Installed with the library; a test asks for a fixture by name::

    def test_orders_arrive(busctl_vhost):
        with MessageBroker(url=busctl_vhost.amqp_url) as broker:
            ...

`busctl_broker`
    One RabbitMQ node for the whole run (`sandbox.PrivateBroker`, ready in about 7 s, stopped with the run). Where
    BUSCTL_TEST_AMQP_URL is set (a service container in CI, say) that broker is used and none is started;
    BUSCTL_TEST_API_URL is its management API, by default port 15672 of the same host.
`busctl_vhost`
    A virtual host of this test's own on that broker, deleted afterwards with everything in it.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest

from busctl_lib.addresses import amqp_address


@dataclass(frozen=True)
class TestBroker:
    """Where a broker, or one virtual host of it, is found."""

    __test__ = False

    amqp_url: str
    api_url: str

    @property
    def host(self) -> str:
        """The host of the AMQP listener."""
        return amqp_address(self.amqp_url).host

    @property
    def port(self) -> int:
        """The port of the AMQP listener."""
        return amqp_address(self.amqp_url).port or 5672

    @property
    def username(self) -> str:
        """The user of both doors."""
        return amqp_address(self.amqp_url).username or "guest"

    @property
    def password(self) -> str:
        """The password of both doors."""
        return amqp_address(self.amqp_url).password or "guest"

    @property
    def name(self) -> str:
        """The virtual host."""
        return amqp_address(self.amqp_url).vhost or "/"

    def at_vhost(self, name: str) -> TestBroker:
        """Name another virtual host of the same broker."""
        return replace(self, amqp_url=replace(amqp_address(self.amqp_url), path="/" + quote(name, safe="")).url)


def _from_environment() -> TestBroker | None:
    amqp_url = os.environ.get("BUSCTL_TEST_AMQP_URL")
    if not amqp_url:
        return None
    address = amqp_address(amqp_url)
    login = address.login or "guest:guest@"
    host = replace(address, port=None).place
    api_url = os.environ.get("BUSCTL_TEST_API_URL") or f"http://{login}{host}:15672"
    return TestBroker(amqp_url, api_url)


@pytest.fixture(scope="session")
def busctl_broker() -> Iterator[Any]:
    """Provide a RabbitMQ node for this run: `amqp_url`, `api_url`, `host`, `port`, `username`, `password`."""
    given = _from_environment()
    if given is not None:
        yield given
        return
    from busctl_lib.sandbox import PrivateBroker

    with PrivateBroker(root=os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")) as broker:
        yield broker


@pytest.fixture
def busctl_vhost(busctl_broker: Any) -> Iterator[TestBroker]:
    """Provide a virtual host of this test's own: `name`, `amqp_url`, `api_url`, and the login."""
    with own_vhost(busctl_broker) as vhost:
        yield vhost


@contextlib.contextmanager
def own_vhost(node: Any) -> Iterator[TestBroker]:
    """Make a virtual host on a broker, for its user; it goes in the end with everything in it."""
    from busctl_lib.management.transport import Transport, segment

    broker = TestBroker(node.amqp_url, node.api_url)
    vhost = broker.at_vhost(f"test-{uuid.uuid4().hex[:12]}")
    api = Transport(broker.api_url, None, None, (10.0, 30.0), read_only=False)
    try:
        api.change("PUT", f"vhosts/{vhost.name}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        api.change("PUT", f"permissions/{vhost.name}/{segment(broker.username)}", everything)
        yield vhost
        api.change("DELETE", f"vhosts/{vhost.name}")
    finally:
        api.close()
