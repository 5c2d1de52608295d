"""Results of a run, and their tables."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from message import SIZE_BYTES
from tasks import CLIENTS, OURS, Target, Task

_JUDGED_FROM = 4
"""The broker's major version that the targets are for."""


@dataclass
class Measured:
    """One measurement."""

    n: int
    seconds: float
    cpu_seconds: float
    samples: list[tuple[int, int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.n / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the client's process a message."""
        return self.cpu_seconds / self.n * 1e6


@dataclass
class BrokerResults:
    """All rounds on one broker."""

    name: str
    about: str
    version: str
    rounds: int
    by_task: dict[str, dict[str, dict[int, Measured]]] = field(default_factory=dict)
    """task -> client -> round."""
    failures: list[str] = field(default_factory=list)

    def add(self, task: Task, client: str, round_number: int, measured: Measured) -> None:
        self.by_task.setdefault(task.name, {}).setdefault(client, {})[round_number] = measured

    def of(self, task: Task, client: str) -> list[Measured]:
        return list(self.by_task.get(task.name, {}).get(client, {}).values())

    def ratios(self, task: Task, client: str) -> list[float]:
        """Our rate over a client's, round by round: both ran within the same minute or two."""
        of_task = self.by_task.get(task.name, {})
        ours, theirs = of_task.get(OURS, {}), of_task.get(client, {})
        return [ours[number].rate / theirs[number].rate for number in sorted(ours.keys() & theirs.keys())]


def _spread(values: list[float], show: Callable[[float], str]) -> str:
    return f"{show(min(values))} .. {show(max(values))}" if values else "-"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


_WORDS = {"client", "how", "target", ""}
"""Columns of words; those of figures are set to the right."""


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    marks = ["---" if column in _WORDS else "---:" for column in head]
    return ["| " + " | ".join(row) + " |" for row in [head, marks, *rows]]


def _verdict(target: Target, measured: float, judged: bool) -> str:
    if not judged:
        return "not judged here"
    return "met" if measured >= target.ratio else "**missed**"


def _task_section(task: Task, results: BrokerResults) -> list[str]:
    rows = []
    for client, entrant in task.entrants.items():
        runs = results.of(task, client)
        if not runs:
            continue
        rates, ratios = [run.rate for run in runs], results.ratios(task, client)
        rows.append(
            [
                f"**{client}**" if client == OURS else client,
                _whole(median(rates)),
                _spread(rates, _whole),
                "1" if client == OURS else _ratio(median(ratios)) if ratios else "-",
                "" if client == OURS else _spread(ratios, _ratio),
                f"{median(run.cpu_us for run in runs):.1f}",
                _whole(runs[0].n),
                entrant.how,
            ]
        )
    head = ["client", task.unit, "min .. max", f"{OURS} / client", "min .. max", "client CPU µs each", "N", "how"]
    lines = [f"### {task.title} (`{task.name}`)", "", task.what, "", *_table(head, rows)]
    targets = _target_rows(task, results)
    if targets:
        lines += ["", *_table(["target", "at least", "measured", "min .. max", ""], targets)]
    return [*lines, ""]


def _target_rows(task: Task, results: BrokerResults) -> list[list[str]]:
    judged = int(results.version.split(".")[0] or 0) >= _JUDGED_FROM
    rows = []
    for target in task.targets:
        ratios = results.ratios(task, target.client)
        if ratios:
            measured = median(ratios)
            verdict = _verdict(target, measured, judged)
            name = f"{OURS} / {target.client}"
            rows.append([name, _ratio(target.ratio), _ratio(measured), _spread(ratios, _ratio), verdict])
    return rows


def _memory_section(task: Task, results: BrokerResults) -> list[str]:
    runs = results.of(task, OURS)
    if not runs:
        return []
    samples = runs[0].samples
    after_start = [size for number, size in samples if number * 10 >= runs[0].n]
    growth = after_start[-1] - after_start[0]
    chosen = [samples[round(part / 10 * (len(samples) - 1))] for part in range(11)]
    rows = [[_whole(number), f"{size / 2**20:.1f}"] for number, size in chosen]
    return [
        f"### {task.title} (`--memory`)",
        "",
        task.what,
        "",
        *_table(["published", "resident MiB"], rows),
        "",
        f"From a tenth of {_whole(runs[0].n)} messages to the last: {growth / 2**20:+.1f} MiB, at most "
        f"{max(after_start) / 2**20:.1f} MiB; {_whole(runs[0].rate)} messages/s.",
        "",
    ]


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}"


def _revision() -> str:
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({told.stdout.strip()})"


def _versions(clients: Iterable[str]) -> str:
    names = sorted({CLIENTS[client].distribution for client in clients if client != OURS})
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{OURS} {importlib.metadata.version('busctl')}{_revision()}, {others}"


def heading(
    title: str, about: str, commands: Iterable[str], all_results: Iterable[BrokerResults], clients: Iterable[str]
) -> list[str]:
    """What a page begins with: what it is, how it was made, when, where and with what."""
    now = datetime.datetime.now(datetime.UTC)
    return [
        f"# {title}",
        "",
        about,
        "",
        "```console",
        *(f"$ {command}" for command in commands),
        "```",
        "",
        f"- Date: {now:%Y-%m-%d %H:%M} UTC",
        f"- Machine: {_machine()}; broker and clients share it",
        f"- Python {platform.python_version()}; {_versions(clients)}",
        *(f"- Broker {one.name}: {one.about}; {one.rounds} rounds" for one in all_results),
        "",
    ]


def markdown(all_results: list[BrokerResults], tasks: list[Task], clients: list[str], commands: list[str]) -> str:
    """The whole page."""
    about = (
        "`busctl_lib` beside other Python clients of RabbitMQ and the ceiling of a bare socket, with a JSON message of "
        f"{SIZE_BYTES} bytes."
    )
    lines = [
        *heading("Benchmarks", about, commands, all_results, clients),
        "Each figure is the median over the rounds. Within a round every client is measured once, in a process of its "
        "own, in an order that changes from round to round; a ratio is taken within a round, and its median shown, so "
        "that a machine that was slow for a while was slow for both. Connecting is not timed. After each measurement "
        "the queue is counted: a run that lost, doubled or left a message fails. *Client CPU* is the CPU time of the "
        "client's process alone.",
        "",
        "The clients of other projects publish a body that was encoded beforehand; ours encodes each message, and adds "
        "a message id and the time.",
        "",
    ]
    for results in all_results:
        lines += [f"## RabbitMQ {results.version} ({results.name})", ""]
        for task in tasks:
            lines += _memory_section(task, results) if task.name == "memory" else _task_section(task, results)
        if results.failures:
            lines += ["Failed:", "", *(f"- {failure}" for failure in results.failures), ""]
    return "\n".join(lines).rstrip() + "\n"
