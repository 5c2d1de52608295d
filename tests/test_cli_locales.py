"""Output where the locale cannot carry all of it: something else stands in the place, and nothing ends by it."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from busctl.views import plain
from busctl.views.formats import cell_width
from busctl_lib import MessageBroker, MessagePublisher

ASCII = {"PYTHONIOENCODING": "ascii"}
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
LOCALES = {
    "ascii": ASCII,
    "C": BARE,
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
}
QUEUES = ("price", "caf\xe9", "q\u2013one", "\u65e5\u672c")
BODY = {"said": "price \u20ac 5 \u2013 \U0001f600 caf\xe9"}
WIRE = json.dumps(BODY, ensure_ascii=False, separators=(",", ":"))
COMMANDS = (
    *(("queues",), ("queues", "-o", "tsv"), ("queues", "price"), ("vhosts",), ("overview",), ("nodes",)),
    *(("topology",), ("connections",), ("users",), ("--help",), ("tail", "--help"), ("queues", "\u20ac")),
    *(("peek", "price"), ("peek", "price", "--fields", "text"), ("tail", "price", "--explain")),
    *(("delete", "queue", "price"), ("definitions", "diff", "-"), ("doctor", "self"), ("dead",), ("--version",)),
)


@pytest.fixture
def run(vhost: Any) -> Any:
    """Run the program as a shell of another locale would: (exit code, stdout, stderr), as bytes."""
    with MessageBroker(url=vhost.amqp_url) as broker:
        for name in QUEUES:
            broker.declare_queue(name)
        MessagePublisher(broker).publish("price", BODY)

    def run(*words: str, stdin: bytes = b"{}", **environment: str) -> tuple[int, bytes, bytes]:
        where = {"BUSCTL_AMQP_URL": vhost.amqp_url, "BUSCTL_API_URL": vhost.api_url}
        done = subprocess.run(
            [sys.executable, "-m", "busctl", *words],
            input=stdin,
            env={**os.environ, **where, **environment},
            capture_output=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("locale", LOCALES)
def test_every_command_prints_whatever_the_locale(run: Any, locale: str) -> None:
    environment = LOCALES[locale]
    for words in COMMANDS if locale == "ascii" else COMMANDS[::5]:
        code, out, err = run(*words, **environment)
        assert code in (0, 1, 2, 4, 9), (words, err)
        for said in (out, err):
            assert b"Traceback" not in said
            assert b"fault of busctl" not in said, (words, said)
            said.decode(environment["PYTHONIOENCODING"] or "ascii")


def test_people_get_a_plain_sign_and_programs_a_name_that_is_no_other(run: Any) -> None:
    table = run("queues", **ASCII)[1].decode("ascii")
    assert "caf\\xe9" in table
    assert "q-one" in table
    lines = table.splitlines()
    columns = {line.index("classic") for line in lines[1:]}
    assert len(columns) == 1, "what stands for a character takes its own room"
    rows = [line.split("\t")[0] for line in run("queues", "-o", "tsv", **ASCII)[1].decode("ascii").splitlines()]
    assert "q\\u2013one" in rows, "a program must not take it for another queue"
    said = run("peek", "price", **ASCII)[1].decode("ascii")
    assert "price \\u20ac 5 - \\U0001f600 caf\\xe9" in said
    assert "caf\xe9" in run("queues", **LOCALES["latin-1"])[1].decode("latin-1")
    assert "q\u2013one" in run("queues", **LOCALES["cp1252"])[1].decode("cp1252")
    assert "+- Options -" in run("tail", "--help", **ASCII)[1].decode("ascii")


@pytest.mark.parametrize("locale", ["ascii", "latin-1"])
def test_json_is_the_same_to_a_program_and_raw_is_exact(run: Any, locale: str) -> None:
    environment = LOCALES[locale]
    for form in ("json", "jsonl"):
        _, out, _ = run("queues", "-o", form, **environment)
        found = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert sorted(each["name"] for each in found) == sorted(QUEUES)
        assert out.isascii(), "JSON is UTF-8 to who reads it, whatever the locale"
    found = [json.loads(line) for line in run("peek", "price", "-o", "jsonl", **environment)[1].splitlines()]
    assert [(each["text"], each["body"]) for each in found] == [(WIRE, BODY)]
    assert (
        run("peek", "price", "--jq", ".body", **environment)[1]
        == json.dumps(BODY, separators=(",", ":")).encode() + b"\n"
    )
    assert run("peek", "price", "-o", "raw", **environment)[1] == WIRE.encode() + b"\n"
    exported = json.loads(run("definitions", "export", **environment)[1])
    assert sorted(each["name"] for each in exported["queues"]) == sorted(QUEUES)


def test_completion_offers_what_can_be_typed_in_the_locale(run: Any) -> None:
    asking = {"_BUSCTL_COMPLETE": "bash", "_BUSCTL_LINE": "busctl queues ca"}
    wanted = "caf\xe9\n"

    def offered() -> bytes:  # nothing where the names do not come in time
        code, out, err = run(**asking, **ASCII)
        assert (code, err) == (0, b"")
        return bytes(out)

    assert wait_until(offered, timeout=90) == wanted.encode(), "arguments are read as UTF-8, whatever the output is"
    assert run(**asking, **BARE) == (0, b"", b""), "this name cannot be an argument here"


def test_a_question_is_answered_in_any_locale(run: Any) -> None:
    code, _, err = run("delete", "queue", "caf\xe9", stdin=b"\xff\xc3\xa9\n", **ASCII)
    assert code == 9
    assert b"caf\\xe9" in err
    assert b"fault" not in err


def test_a_screen_keeps_its_cells() -> None:
    drawn = "\u256d\u2500 \u2026 \u2502\u2588\u28ff\u65e5\u672c e\u0301 \U0001f600 \u2716"
    shown = drawn.encode("ascii", plain.CELLS).decode()
    assert len(shown) == cell_width(drawn)
    assert shown.startswith("+- . |#:")


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "koi8-r", "shift_jis", "utf-8"]))
def test_any_text_goes_through_any_encoding(text: str, encoding: str) -> None:
    for handler in (plain.PLAIN, plain.CELLS):
        text.encode(encoding, handler).decode(encoding)
    assert plain.plain(text, "utf-8").encode("utf-8", "surrogatepass") == text.encode("utf-8", plain.PLAIN)
    kept = plain.escaped(text, encoding)
    assert kept.encode("ascii", "backslashreplace") == text.encode("ascii", "backslashreplace"), "no two look the same"


def test_the_handlers_are_for_writing_only() -> None:
    handler = codecs.lookup_error(plain.PLAIN)
    with pytest.raises(UnicodeDecodeError):
        handler(UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"))
