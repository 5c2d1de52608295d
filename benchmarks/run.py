"""Measures busctl_lib side by side with other clients and the ceiling of a bare socket; `make bench`.

usage: run.py [--broker NAME=AMQP_URL ...] [--rounds 5] [--task NAME ...] [--client NAME ...] [--scale 1]
              [--memory] [--output FILE]

Without --broker: a private node of the installed RabbitMQ, then one of the 4.x that BUSCTL_TEST_RABBITMQ_ROOT names.
A whole run (all tasks, all clients, five rounds or more, full size) writes RESULTS.md beside this file, any other
one prints its page. Progress goes to stderr. Exit codes: 0 measured, 1 a measurement failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from process import child
from results import BrokerResults, Measured, markdown
from stage import Stage, WrongCount
from tasks import CLIENTS, MEMORY, TASKS, Task, installed

from busctl_lib.errors import BusError
from busctl_lib.sandbox import PrivateBroker

_RESULTS = Path(__file__).with_name("RESULTS.md")
_WHOLE_ROUNDS = 5
_DEADLINE_S = 300
_REST_S = 0.3


class Failed(Exception):
    """A measurement that has no figure."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Measure busctl_lib side by side with other clients and a bare socket."
    )
    parser.add_argument(
        "--broker", action="append", default=[], metavar="NAME=AMQP_URL", help="measure on this broker; repeatable"
    )
    parser.add_argument("--rounds", type=_positive(int), default=_WHOLE_ROUNDS, help="measurements of each (5)")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; repeatable")
    parser.add_argument("--client", action="append", choices=list(CLIENTS), help="only this client; repeatable")
    parser.add_argument("--scale", type=_positive(float), default=1.0, help="a factor for the number of messages (1)")
    parser.add_argument("--memory", action="store_true", help="also watch our memory over 1,000,000 publishes")
    parser.add_argument("--output", metavar="FILE", help="write the page there; - is stdout")
    options = parser.parse_args(given)
    for broker in options.broker:
        if "=" not in broker.partition("://")[0]:
            parser.error(f"--broker wants NAME=AMQP_URL, found {broker!r}")
    return options


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def positive(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"must be above 0, found {text}")
        return value

    return positive


def chosen_clients(options: argparse.Namespace) -> list[str]:
    """Those asked for that are installed; says what is left out."""
    clients = []
    for name in options.client or list(CLIENTS):
        if installed(name):
            clients.append(name)
        else:
            say(f"{name} is not installed and left out; `pip install -e '.[bench]'` installs all")
    return clients


def chosen_tasks(options: argparse.Namespace) -> list[Task]:
    tasks = [TASKS[name] for name in TASKS if not options.task or name in options.task]
    return [*tasks, MEMORY] if options.memory else tasks


@contextmanager
def brokers(options: argparse.Namespace) -> Iterator[Iterator[tuple[str, str]]]:
    """Names and addresses, one broker at a time: a private node is started when its turn comes, and then stopped."""

    def each() -> Iterator[tuple[str, str]]:
        for broker in options.broker:
            name, _, url = broker.partition("=")
            yield name, url
        roots = [] if options.broker else [None, os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")]
        for number, root in enumerate(roots):
            if number and not root:
                continue
            say(f"starting a private RabbitMQ{f' from {root}' if root else ''}")
            with PrivateBroker(root=root) as node:
                yield "4.x" if root else "installed", node.amqp_url

    turn = each()
    try:
        yield turn
    finally:
        turn.close()  # type: ignore[attr-defined]  # a generator: ends the node of an interrupted turn


def measure(stage: Stage, task: Task, client: str, n: int, echo: str | None) -> Measured:
    """One measurement in a process of its own. Raises Failed."""
    with ExitStack() as stack:
        queue = echo if task.calls else stack.enter_context(stage.queue(task, n))
        assert queue is not None
        process = stack.enter_context(child("measure.py", client, task.name, stage.url, queue, str(n)))
        assert process.stdout is not None
        result = _result_of(process)
        try:
            if not task.calls and task.max_length is None:
                stage.check(queue, 0 if task.fills else result["published"])
        except WrongCount as error:
            raise Failed(str(error)) from None
    return Measured(result["n"], result["seconds"], result["cpu_seconds"], [(n, size) for n, size in result["samples"]])


def _result_of(process: subprocess.Popen[str]) -> dict:
    # Its end of the pipe stays open while it measures: closing it would end the child.
    try:
        status = process.wait(_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {_DEADLINE_S} s") from None
    out, err = process.communicate()
    if status != 0 or not out.strip():
        lines = [line for line in err.splitlines() if line.strip()]
        raise Failed(f"ended with {status}: {lines[-1] if lines else 'without a word'}")
    return json.loads(out.splitlines()[-1])


def run_on(name: str, url: str, tasks: list[Task], clients: list[str], options: argparse.Namespace) -> BrokerResults:
    """All rounds on one broker."""
    with ExitStack() as stack:
        stage = Stage(url)
        stack.callback(stage.close)
        results = BrokerResults(name, stage.about, stage.version, options.rounds)
        say(f"{name}: {results.about}")
        echo = stack.enter_context(stage.echo_service()) if any(task.calls for task in tasks) else None
        for round_number in range(options.rounds):
            for task in tasks:
                if task is MEMORY and round_number:
                    continue
                for client in _order(task, clients, round_number):
                    _one(stage, task, client, round_number, echo, results, options)
                    time.sleep(_REST_S * min(1.0, options.scale))  # the broker deletes its files
    return results


def _order(task: Task, clients: list[str], round_number: int) -> list[str]:
    """Another client is first in each round."""
    names = [name for name in task.entrants if name in clients]
    shift = round_number % len(names) if names else 0
    return names[shift:] + names[:shift]


def _one(
    stage: Stage,
    task: Task,
    client: str,
    round_number: int,
    echo: str | None,
    results: BrokerResults,
    options: argparse.Namespace,
) -> None:
    n = max(1, round(task.entrants[client].n * options.scale))
    label = f"{results.name} {round_number + 1}/{options.rounds}  {task.name:<12} {client:<14}"
    try:
        measured = measure(stage, task, client, n, echo)
    except Failed as error:
        results.failures.append(f"{task.name}, {client}, round {round_number + 1}: {error}")
        say(f"{label} failed: {error}")
    else:
        results.add(task, client, round_number, measured)
        say(f"{label} {measured.rate:>9,.0f} {task.unit:<11} {measured.cpu_us:>7.1f} µs CPU each")


def _is_whole(options: argparse.Namespace, clients: list[str]) -> bool:
    return (
        not options.task
        and not options.client
        and clients == list(CLIENTS)
        and options.rounds >= _WHOLE_ROUNDS
        and options.scale == 1
    )


def _commands(all_results: list[BrokerResults], given: list[str]) -> list[str]:
    """The command line, without the login of a broker."""
    shown = []
    for argument in given:
        head, separator, rest = argument.partition("://")
        shown.append(f"{head}{separator}{rest.rpartition('@')[2]}" if separator else argument)
    root = os.environ.get("BUSCTL_TEST_RABBITMQ_ROOT")
    environment = "BUSCTL_TEST_RABBITMQ_ROOT=DIR " if root and any(one.name == "4.x" for one in all_results) else ""
    return [f"{environment}.venv/bin/python benchmarks/run.py {shlex.join(shown)}".rstrip()]


def _write(page: str, output: str | None) -> None:
    if output is None or output == "-":
        print(page, end="")
    else:
        Path(output).write_text(page, encoding="utf-8")
        say(f"written: {output}")


def main() -> int:
    options = arguments()
    clients, tasks = chosen_clients(options), chosen_tasks(options)
    if not clients:
        say("no client is left to measure")
        return 2
    output = options.output or (str(_RESULTS) if _is_whole(options, clients) else None)
    all_results = []
    try:
        with brokers(options) as turn:
            for name, url in turn:
                all_results.append(run_on(name, url, tasks, clients, options))
    except BusError as error:
        say(f"{error}{f' {error.hint}' if error.hint else ''}")
        return 1
    _write(markdown(all_results, tasks, clients, _commands(all_results, sys.argv[1:])), output)
    return 1 if any(one.failures for one in all_results) else 0


if __name__ == "__main__":
    # Also where SIGINT is ignored, as for background jobs of a script.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted; nothing is left on the broker, nothing was written")
        sys.exit(130)
