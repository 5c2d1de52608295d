"""The bus file: found, read, and its mistakes told by file, line, key and the nearest right key."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from busctl import busfile
from busctl.busfile import BusFile
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import CodecError, ConfigError, InvalidMessage
from busctl_lib.methods import coerce

WHOLE = """
[methods.get_orderbook]
help = "bids and asks"
queue = "obs_requests"
fixed = { action = "get_orderbook" }
timeout = "2s"
error = ".body.error"

[methods.get_orderbook.arguments]
symbol = { type = "string", minLength = 1, help = "what to look at" }
depth = { type = "integer", minimum = 1, maximum = 100, default = 10 }
side = { enum = ["buy", "sell"], optional = true }

[methods.fib]
queue = "rpc_queue"
body = "text"
arguments = { n = "integer" }

[methods.free]
exchange = "rpc"
key = "free.do"
reply_queue = "responses"

[methods.place]
queue = "orders"
request = "order"
reply = "trade"

[schemas]
order = "schemas/order.json"
trade = "messages.py:Trade"

[filters]
failed = '.headers["busctl-error"] != null'

[decoders.upper]
content_type = "text/x-*"
key = "trades.#"
command = "tr a-z A-Z"

[groups]
requests = ["*_requests", "orders"]
"""
ORDER = {
    "type": "object",
    "properties": {"action": {"const": "place"}, "quantity": {"type": "number", "description": "how many"}},
    "required": ["action", "quantity"],
    "additionalProperties": False,
}
MESSAGES = "from typing import TypedDict\n\nclass Trade(TypedDict):\n    price: float\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bus.toml").write_text(WHOLE)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "order.json").write_text(json.dumps(ORDER))
    (tmp_path / "messages.py").write_text(MESSAGES)
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def of(text: str) -> BusFile:
    return busfile.parse(text, Path("/somewhere/bus.toml"))


def test_it_is_found_upwards_and_says_all_there_is(folder: Path) -> None:
    bus = busfile.load()
    assert bus.path == folder / "bus.toml"
    assert bus.method_names == ["get_orderbook", "fib", "free", "place"]
    book = bus.method("get_orderbook")
    assert (book.signature, book.queue, book.timeout_s) == ("symbol [depth=10] [side]", "obs_requests", 2)
    assert book.argument_help == {"symbol": "what to look at"}
    assert coerce(book, ["AAPL", "side=buy"]) == {
        "action": "get_orderbook",
        "symbol": "AAPL",
        "depth": 10,
        "side": "buy",
    }
    with pytest.raises(InvalidMessage, match="get_orderbook: depth: expected an integer >= 1 and <= 100, found 0"):
        coerce(book, ["AAPL", "0"])
    assert coerce(bus.method("fib"), ["-3"]) == b"-3"
    free = bus.method("free")
    assert (free.exchange, free.queue, free.replies, free.reply_queue) == ("rpc", "free.do", "shared", "responses")
    assert coerce(free, ["a=1", "b:=[2]"]) == {"a": "1", "b": [2]}
    assert coerce(free, ["as it is"]) == b"as it is"


def test_schemas_are_json_schema_files_and_typed_dicts(folder: Path) -> None:
    bus = busfile.load()
    place = bus.method("place")
    assert (place.signature, place.argument_help) == ("quantity", {"quantity": "how many"})
    assert coerce(place, ["2"]) == {"action": "place", "quantity": 2}
    assert bus.schema("trade").__name__ == "Trade"
    (folder / "schemas" / "order.json").write_text('{"type": "object", "properties": {"a": {"type": "strin"}}}')
    with pytest.raises(ConfigError, match=r"order\.json, #/properties/a/type: no type 'strin'"):
        busfile.load().method("place")
    (folder / "schemas" / "order.json").unlink()
    with pytest.raises(ConfigError, match=r"bus\.toml, line \d+: schemas\.order: cannot read"):
        busfile.load().method("place")


def test_filters_and_groups_are_named(folder: Path) -> None:
    bus = busfile.load()
    assert bus.filter_named("@failed") == '.headers["busctl-error"] != null'
    assert bus.filter_named(".body.x > 1") == ".body.x > 1"
    assert bus.queues_named("@requests") == ["*_requests", "orders"]
    with pytest.raises(ConfigError, match="no filter 'faild'") as caught:
        bus.filter_named("@faild")
    assert caught.value.hint == "did you mean failed?"


def test_decoders_run_for_what_they_name(folder: Path) -> None:
    bus = busfile.load()

    def delivery(content_type: str, key: str) -> Delivery:
        properties = Properties(content_type=content_type)
        return Delivery(exchange="", routing_key=key, properties=properties, body=b"abc", queue="q", received_at=0)

    decoder = bus.decoder_for(delivery("text/x-thing", "trades.aapl"))
    assert decoder is not None
    assert decoder.decode(b"abc") == b"ABC"
    assert bus.decoder_for(delivery("text/plain", "trades.aapl")) is None
    assert bus.decoder_for(delivery("text/x-thing", "quotes")) is None
    command = [sys.executable, "-c", "import sys; sys.exit('no such field')"]
    with pytest.raises(CodecError, match="decoder bad: exit code 1: no such field"):
        busfile.Decoder(name="bad", command=command, key="#").decode(b"")
    with pytest.raises(CodecError, match="/no/such/program"):
        busfile.Decoder(name="bad", command=["/no/such/program"], key="#").decode(b"")


def test_nothing_of_somebody_elses_file_is_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    os.chown(folder / "bus.toml", os.getuid() or 65_534, -1)
    bus = busfile.load()
    assert bus.filter_named("@failed")
    with pytest.raises(ConfigError, match="belongs to another user"):
        bus.decoders["upper"].decode(b"")
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        bus.schema("trade")
    assert "--bus-file" in str(caught.value.hint)
    assert busfile.load(folder / "bus.toml").schema("trade")


def test_without_a_file_there_are_the_sample_bus_and_no_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bus = busfile.load()
    assert "place_order" in bus.method_names
    with pytest.raises(ConfigError, match=r"no bus\.toml here or above"):
        bus.filter_named("@failed")
    with pytest.raises(ConfigError, match="no bus file"):
        busfile.load(tmp_path / "other.toml")
    with pytest.raises(ConfigError, match="no method 'get_ordrbook'"):
        bus.method("get_ordrbook")


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("a = [", "/somewhere/bus.toml is not TOML", ""),
        ("[method]\n", "line 1: unknown key method", "did you mean methods?"),
        ('\n[method.x]\nqueue = "q"', "line 2: unknown key method", "did you mean methods?"),
        (
            '[methods.x]\nqueue = "q"\n[[methods.x.arguments]]',
            "line 3: methods.x.arguments: expected `table`, got",
            "",
        ),
        ('[methods.x]\nqueue = "q"\ntimout = "1s"', "line 3: unknown key methods.x.timout", "did you mean timeout?"),
        ("[methods.x]\nqueue = 1", "line 2: methods.x.queue: expected `str", ""),
        ("[methods.x]\n", "line 1: methods.x: it needs a queue or an exchange", "queue ="),
        ('[methods.x]\nqueue = "q"\nexchange = "e"', "not both", ""),
        ('[methods.x]\nqueue = "q"\nkey = "k"', "line 3: methods.x.key: a key goes with an exchange", ""),
        ('[methods.mock]\nqueue = "q"', "line 1: methods.mock: 'mock' is a reserved word", "choose another name"),
        ('[methods."a b"]\nqueue = "q"', "'a b' cannot be a name", ""),
        ('[methods.x]\nqueue = "q"\ntimeout = "soon"', "line 3: methods.x.timeout: 'soon' is not a duration", ""),
        ('[methods.x]\nqueue = "q"\nerror = ".a ||"', "line 3: methods.x.error: syntax error", ""),
        ('[methods.x]\nqueue = "q"\nrequest = "ordr"\n[schemas]\norder = "o.json"', "line 3: ", "did you mean order?"),
        ('[methods.x]\nqueue = "q"\nreplies = "shared"', "line 3: methods.x.replies: reply_queue", ""),
        ('[methods.x]\nqueue = "q"\nbody = "txt"', "line 3: methods.x.body: invalid enum value 'txt'", ""),
        (
            '[methods.x]\nqueue = "q"\n[methods.x.arguments]\na = { type = "integr" }',
            "line 4: methods.x.arguments.a.type: no type 'integr'",
            "integer",
        ),
        (
            '[methods.x]\nqueue = "q"\n[methods.x.arguments.a]\ntype = "integer"\nminimun = 1',
            "line 5: methods.x.arguments.a.minimun: 'minimun' cannot be checked here",
            "did you mean 'minimum'?",
        ),
        (
            '[methods.x]\nqueue = "q"\narguments.a = { type = "integer", default = "x" }',
            "line 3: methods.x.arguments.a.default: expected `int`, got `str`",
            "",
        ),
        ('[schemas]\norder = "order"', "line 2: schemas.order: 'order' names neither", "FILE.json"),
        ('[filters]\nbad = ".a |"', "line 2: filters.bad: syntax error", ""),
        ('[decoders.x]\ncommand = "cat"', "line 1: decoders.x: it says not what it is for", "content_type"),
        ('[decoders.x]\nkey = "#"', "line 1: decoders.x: object missing required field `command`", ""),
        ('[decoders.x]\nkey = "#"\ncommand = "a \'b"', "line 3: decoders.x.command: it cannot be split", ""),
        ('[groups]\norders = "o"', "line 2: groups.orders: expected `array`", ""),
    ],
)
def test_a_mistake_is_told_by_line_and_key(text: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(text)
    assert says in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert str(caught.value).startswith("/somewhere/bus.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise ValueError('no')", "messages.py cannot be imported: ValueError: no"),
        ("from typing import TypedDict\nTrades = TypedDict('Trades', {})", "has no TypedDict 'Trade'"),
    ],
)
def test_a_module_that_is_not_as_promised_is_told(folder: Path, content: str, says: str) -> None:
    (folder / "messages.py").write_text(content)
    with pytest.raises(ConfigError) as caught:
        busfile.load().schema("trade")
    assert says in str(caught.value)
    assert "line" in str(caught.value)


def test_keys_of_the_file_are_the_ones_of_the_tables() -> None:
    found: Any = busfile.parse("", Path("bus.toml"))
    assert (found.filters, found.groups, found.schema_names) == ({}, {}, [])
