"""Examples of every command: shown first in its help, printed in the reference, tried by the tests."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from typer.core import TyperGroup


class Example(NamedTuple):
    """A command line to copy, and what it does."""

    line: str
    does: str


def of(path: str) -> tuple[Example, ...]:
    """Give the examples of a command by its path below the program: "tail", "contexts add", "" for the program."""
    return tuple(Example(f"busctl {line}".strip(), does) for line, does in _EXAMPLES.get(path, ()))


def show(command: Any, path: str = "") -> None:
    """Put the examples of a command, and of the commands below it, behind the first paragraph of its help."""
    first, *others = inspect.cleandoc(command.help or "").split("\n\n")
    lines = [f"[dim]# {_plain(does)}[/dim]\n[cyan]{_plain(line)}[/cyan]" for line, does in of(path)]
    paragraphs = [first, *(["\n".join(lines)] if lines else []), *(" ".join(other.split()) for other in others)]
    command.short_help = command.short_help or " ".join(first.split())
    command.help = "\n\n".join(paragraphs)
    if path and isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            show(below, f"{path} {name}")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # square brackets are markup there


_EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("demo", "a private RabbitMQ with a live trading bus, and the console on it"),
        ("", "the console on your own broker"),
        ("tail obs_responses", "live messages of a queue, none taken"),
        ("dead", "where dead letters wait, and from where they came"),
    ),
    # --- see the bus
    "overview": (
        ("overview", "version, alarms, totals, rates, and what needs attention"),
        ("overview --watch 2s", "the same every two seconds"),
        ("overview -o json", "for a script"),
    ),
    "queues": (
        ("queues 'obs_*' --sort -messages", "some queues, the fullest first"),
        ("queues tes_requests", "one queue in detail"),
        ("queues --where '.consumers == 0 and .messages > 0'", "messages wait and nobody takes them"),
        ("queues --watch 2s", "every two seconds"),
    ),
    "exchanges": (
        ("exchanges 'market*'", "some exchanges"),
        ("exchanges market_data", "one exchange with what it feeds"),
    ),
    "bindings": (
        ("bindings", "what leads where"),
        ("bindings --where '.source == \"market_data\"' -o jsonl", "from one exchange, for a script"),
    ),
    "topology": (
        ("topology trade_events --kind queue", "who can reach a queue, and where its dead letters go"),
        ("topology market_data", "what an exchange reaches"),
    ),
    "connections": (
        ("connections", "who is connected"),
        ("connections --sort -channels", "the one with most channels first"),
    ),
    "channels": (("channels --sort -unacked", "who holds most messages unacknowledged"),),
    "consumers": (
        ("consumers", "who takes messages from where"),
        ("consumers --where '.prefetch_count == 0'", "consumers without a limit"),
    ),
    "nodes": (("nodes", "the nodes of the cluster: memory, disk, alarms"),),
    "vhosts": (("vhosts", "the virtual hosts"), ("vhosts / -o json", "one of them, for a script")),
    "policies": (
        ("policies", "the policies of the virtual host"),
        ("policies set limits '^orders' max-length:=1000 --yes", "keep queues named orders... short"),
        ("policies clear limits --yes", "take it away again"),
    ),
    "policies set": (
        ("policies set limits '^orders' max-length:=1000 --apply-to queues --yes", "keep some queues short"),
    ),
    "policies clear": (("policies clear limits --yes", "take a policy away"),),
    "users": (("users", "who may log in, with which tags"),),
    "permissions": (("permissions", "who may do what in the virtual host"),),
    "shovels": (("shovels", "the shovels and their state"),),
    "federation": (("federation", "the federation links and their state; the broker needs its plug-in"),),
    "events": (
        ("events --for 10s", "what is created, closed and left in ten seconds"),
        ("events 'queue.*' -o jsonl --for 5s", "of queues alone, for a script"),
    ),
    # --- see messages
    "tail": (
        ("tail obs_responses -n 5", "five live messages, none taken"),
        ("tail obs_responses --explain", "which way would be taken, and what it cannot see"),
        ("tail obs_responses -n 3 --where '.body.status == \"open\"'", "only these"),
        ("tail --exchange market_data --key 'quotes.#' -n 5", "of an exchange instead of a queue"),
        ("tail trade_tape --since first -n 3 -o jsonl", "of a stream from its beginning, for a script"),
    ),
    "peek": (
        ("peek tes_requests.dead -n 1", "look at the message that waits first"),
        ("peek risk_quotes.dead -n 3 --fields routing_key,body", "of three, what matters"),
    ),
    "record": (
        ("record monday.jsonl.zst obs_requests -n 20", "keep twenty messages, every AMQP type exact"),
        ("record quotes.jsonl --exchange market_data --key 'quotes.#' --for 5s", "five seconds of an exchange"),
    ),
    # --- send and call
    "publish": (
        ("publish tes_requests action=place_order user_id:=1 symbol=AAPL side=buy quantity:=5 price:=150.0", "pairs"),
        ('publish tes_responses \'{"order_id": "1"}\' -H source=me', "a body with a header"),
        ("publish -x market_data -k quotes.AAPL bid:=150.1", "to an exchange"),
        ('publish obs_responses \'{"id": "{{uuid}}"}\' --count 100 --rate 50', "a hundred, fifty a second"),
    ),
    "play": (
        ("play monday.jsonl.zst --dry-run", "what would be sent where"),
        ("play monday.jsonl.zst --speed 10 --to tes_responses", "ten times as fast, to one queue"),
    ),
    "rpc": (
        ("rpc list", "the methods, and what they take"),
        ("rpc get_orderbook AAPL", "call one"),
        ("rpc get_orderbook AAPL --count 200 --concurrency 8", "call it often, and see the percentiles"),
        ('rpc --queue obs_requests \'{"action": "get_symbols"}\'', "without a method: a body to a queue"),
    ),
    "rpc list": (("rpc list", "the methods, and what they take"), ("rpc list get_trades -o json", "one of them")),
    "rpc mock": (
        ("rpc mock --queue pricing --echo --for 1s", "stand in for a service"),
        ("rpc mock --queue pricing --echo --delay 50ms --fail-rate 0.1 --for 1s", "a slow one that fails at times"),
    ),
    "rpc spy": (
        ("rpc spy -n 10", "ten calls of others, their latency, and what was never answered"),
        ("rpc spy obs_requests --for 3s -o jsonl", "to one queue, for a script"),
    ),
    # --- mend
    "dead": (
        ("dead", "the queues that dead letters end in"),
        ("dead tes_requests.dead", "why they died, grouped by cause"),
        ("dead --content", "look also into queues that nobody consumes"),
    ),
    "replay": (
        ("replay tes_requests.dead --dry-run", "the plan: what would go where; nothing is done"),
        ("replay tes_requests.dead --limit 5 --yes", "the five oldest, back to where they came from"),
        ("replay tes_requests.dead --where '.body.symbol == \"AAPL\"' --canary 1 --watch 2s --yes", "try one first"),
        ("replay risk_quotes.dead --route queue --limit 2 --rate 10 --yes", "slowly, only to the queue they died in"),
    ),
    "move": (
        ("move tes_requests.dead obs_responses --limit 2 --dry-run", "the plan"),
        ("move tes_requests.dead tes_requests --limit 2 --yes", "the two oldest"),
    ),
    "copy": (("copy tes_requests.dead tes_responses --limit 2 --yes", "two copies; the originals stay"),),
    "park": (
        ("park tes_requests.dead --limit 2 --yes", "into tes_requests.dead.parked"),
        ("park risk_quotes.dead --to later --limit 2 --yes", "into a queue of that name"),
    ),
    "discard": (
        ("discard risk_quotes.dead --limit 2 --dry-run", "what would go"),
        ("discard risk_quotes.dead --limit 2 --yes", "into the trash; `busctl ops` knows how to put it back"),
    ),
    "ops": (
        ("ops", "what was changed from here, the newest first"),
        ("ops -n 5 -o json", "five of them, for a script"),
    ),
    "ops show": (("ops ID", "one operation"),),
    "ops resume": (("ops resume ID", "go on where it was interrupted"),),
    "ops undo": (("ops undo ID --dry-run", "what would be put back"), ("ops undo ID --yes", "put it back")),
    "ops export": (("ops export ID > audit.jsonl", "its audit: a line a message"),),
    # --- change the bus
    "declare": (
        ("declare queue orders --type quorum --dead-letter-to orders.dead --yes", "a queue"),
        ("declare exchange shop --type topic --yes", "an exchange"),
        ("declare binding orders --exchange shop --key 'orders.#' --yes", "what leads from one to the other"),
    ),
    "declare queue": (
        ("declare queue orders --type quorum --dead-letter-to orders.dead --yes", "replicated, with dead letters"),
        ("declare queue short -a x-max-length:=1000 --yes", "with an argument"),
    ),
    "declare exchange": (("declare exchange shop --type topic --yes", "a topic exchange"),),
    "declare binding": (("declare binding orders --exchange shop --key 'orders.#' --yes", "feed a queue"),),
    "declare vhost": (("declare vhost staging --default-queue-type quorum --yes", "a virtual host"),),
    "delete": (
        ("delete binding orders --exchange shop --yes", "a binding"),
        ("delete exchange shop --if-unused --yes", "an exchange nobody needs"),
        ("delete queue short --if-unused --yes", "a queue nobody uses"),
    ),
    "delete queue": (("delete queue short --if-empty --yes", "only where nothing would be lost"),),
    "delete exchange": (("delete exchange shop --if-unused --yes", "only where it feeds nothing"),),
    "delete binding": (("delete binding orders --exchange shop --key 'orders.#' --yes", "one of several"),),
    "delete vhost": (("delete vhost staging --yes", "a virtual host with all that is in it"),),
    "purge": (("purge risk_quotes.dead --yes", "drop what waits; a bounded part goes to the trash first"),),
    "close-connection": (
        ("close-connection 'demo-desk (publish)' --reason 'moved' --yes", "by the name its client gave it"),
    ),
    "definitions": (
        ("definitions export before.json", "what is declared in the virtual host"),
        ("definitions diff before.json", "what changed since"),
        ("definitions import before.json --yes", "add what is absent"),
    ),
    "definitions export": (
        ("definitions export before.json --force", "into a file, instead of the one there"),
        ("definitions export -A > cluster.json", "of the whole cluster, with users"),
        ("definitions export quorum.json --transform quorum", "rewritten for quorum queues, each change listed"),
    ),
    "definitions diff": (("definitions diff before.json", "exit code 1 where they differ"),),
    "definitions import": (("definitions import before.json --yes", "adds and replaces, deletes nothing"),),
    # --- set up
    "demo": (
        ("demo", "the bus and the console; `q` ends both"),
        ("demo --headless --for 30s", "for scripts: the first line has the addresses"),
        ("demo --rate 100", "more orders a second"),
    ),
    "contexts": (
        ("contexts add staging --amqp-url amqp://ops@staging:5672/ --password-env MQ_PASSWORD", "name a broker"),
        ("contexts use staging", "talk to it from now on"),
        ("contexts", "the brokers that have a name"),
    ),
    "contexts add": (
        (
            "contexts add staging --amqp-url amqp://ops@staging:5672/ --password-command 'pass show mq'",
            "its password comes from a command at each use",
        ),
        ("contexts add prod --amqp-url amqps://ops@mq:5671/ --password-env MQ_PASSWORD --production", "with a guard"),
    ),
    "contexts use": (("contexts use staging", "talk to it from now on"), ("contexts use -", "to the one before")),
    "contexts remove": (("contexts remove staging --yes", "its broker is not touched"),),
    "contexts check": (("contexts check", "what works there, and what this user may not"),),
    "doctor": (("doctor self", "is this installation in order?"), ("doctor self -o json", "for a script")),
    "doctor self": (("doctor self", "is this installation in order?"), ("doctor self -o json", "for a script")),
    "completion": (
        ("completion bash", "print it; in ~/.bashrc: source <(busctl completion bash)"),
        ("completion fish", "into ~/.config/fish/completions/busctl.fish"),
    ),
    "bus": (
        ("bus init", "write bus.toml from what is on the broker"),
        ("bus check", "is there a mistake in it?"),
    ),
    "bus init": (("bus init", "into bus.toml here"), ("bus init -", "print it")),
    "bus check": (("bus check", "the bus file here or above"),),
    "keys": (("keys generate", "make a key, and encrypt with it"), ("keys list", "which are held")),
    "keys generate": (
        ("keys generate 2026-11", "with an id of your own"),
        ("keys generate --stdout", "print a key file, store nothing"),
    ),
    "keys list": (("keys list", "the ids, the one that encrypts with a star"),),
}
