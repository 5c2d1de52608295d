"""The console's lists of shovels and federation links."""

from __future__ import annotations

import requests
from consoles import on_loop, opened

from busctl_lib.pytest_plugin import TestBroker


@on_loop
async def test_shovels_are_listed_and_a_plugin_that_is_off_is_a_sentence(vhost: TestBroker) -> None:
    ends = {"src-protocol": "amqp091", "src-uri": f"amqp:///{vhost.name}", "src-queue": "clean"}
    value = {**ends, "dest-protocol": "amqp091", "dest-uri": f"amqp:///{vhost.name}", "dest-queue": "copy"}
    path = f"{vhost.api_url}/api/parameters/shovel/{vhost.name}/mover"
    requests.put(path, json={"value": value}, timeout=10).raise_for_status()
    async with opened(vhost, (140, 30)) as console:
        await console.shows("no alarms")
        await console.command("shovels")
        await console.shows("overview › shovels", "mover", "clean", "copy", "running", timeout=30)
        await console.command("federation")
        await console.shows("› federation", "rabbitmq_federation_management is off", timeout=30)
