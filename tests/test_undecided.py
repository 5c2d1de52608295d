"""A filter never acts on what was not read: such messages are undecided, left where they are, counted and named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consoles import on_loop
from consoles import opened as console_opened
from dead_letters import Yard
from trying import Busctl, Ended
from unread import UNREAD
from waiting import wait_until

from busctl.tui.filters import Filter
from busctl.tui.sieve import Sieve, Sifted
from busctl.tui.widgets.message_log import matched_text
from busctl_lib.captures import CaptureWriter
from busctl_lib.codecs import Keyring, encode_body, new_key
from busctl_lib.documents import question
from busctl_lib.envelope import Delivery, Envelope, Properties
from busctl_lib.expressions import BATCH_MESSAGES, Expression, GuardedExpression, Question
from busctl_lib.transfers import Request, Transfer


def delivery(body: bytes, **properties: Any) -> Delivery:
    made = Properties(**properties)
    return Delivery(exchange="", routing_key="q", properties=made, body=body, queue="q", received_at=0.0)


def decided(where: str, *deliveries: Delivery, **options: Any) -> list[bool | None]:
    with GuardedExpression(Expression(where)) as guarded:
        return guarded.decide([question(each, only=guarded.reads, **options) for each in deliveries])


# --- what an expression decides


@pytest.mark.parametrize(
    "where",
    [
        *(".body.keep != true", ".body.keep == null", ".body == null", ".body | not", ".body.keep // true", ".body"),
        *(".body.keep? != true", '(try .body.keep catch "x") != true', "[.body] | any(. == null)", "first(.body)"),
        *('.["body"].keep != true', '."body" == null', "(.body, .body.keep) | not", "isempty(.body[]?)"),
        *("if .body.keep then false else true end", ".body as $b | $b.keep != true", "to_entries | length > 3"),
        *("[.. | booleans] | length == 0", '(tostring | contains("true")) | not', "true and (.body.keep | not)"),
        *(".body.keep == true | not", "any(.body.tags[]?; .) | not", 'getpath(["body", "keep"]) != true'),
        *(". | .body.keep != true", "with_entries(.) | .body == null", "select(.body == null)", "del(.body.keep)"),
    ],
)
def test_an_expression_that_may_read_a_body_is_undecided_where_it_was_not_read(where: str) -> None:
    made = [delivery(body, **properties) for body, properties, _ in UNREAD.values()]
    assert dict(zip(UNREAD, decided(where, *made), strict=True)) == dict.fromkeys(UNREAD)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ('.headers.kind == "x"', True),
        ('.headers.kind != "x"', False),
        ('.properties.message_id == "m-1"', True),
        (".size < 1000", True),
        ('has("body")', False),
        ('has("body") | not', True),
        ('has("body") and .body.keep != true', False),
        ('.headers.kind == "x" or .body.keep', True),
        ('.headers.kind == "y" and .body.keep != true', False),
        ('if .headers.kind == "x" then true else .body.keep end', True),
        ('select(.headers.kind == "x")', True),
        ('.routing_key | IN("q", "r")', True),
        ("[.headers.kind, .exchange] | any", True),
        (".headers.kind, .body.keep", True),
        ("false and .body", False),
        ("true", True),
    ],
)
def test_what_it_need_not_read_decides(where: str, found: bool) -> None:
    made = []
    for body, properties, _ in UNREAD.values():
        headers = {"kind": "x", **properties.get("headers", {})}
        made.append(delivery(body, **{"message_id": "m-1", **properties, "headers": headers}))
    assert dict(zip(UNREAD, decided(where, *made), strict=True)) == dict.fromkeys(UNREAD, found)


def test_the_text_decides_where_there_is_text_and_nobody_acts_on_text_that_was_not_read() -> None:
    assert decided('.text == "keep"', delivery(b"keep")) == [True]
    assert decided('.text | contains("NaN")', delivery(b'{"a": NaN}')) == [True]
    assert decided('.text != "keep"', delivery(b"")) == [True]
    assert decided(".text == null", delivery(b"\x80\xff")) == [True], "of bytes it is known that they are no text"
    for name in ("encoding", "brotli", "broken", "charset"):
        body, properties, _ = UNREAD[name]
        assert decided('(.text // "") | contains("keep") | not', delivery(body, **properties)) == [None]


def test_an_expression_that_fails_is_undecided() -> None:
    made = [delivery(b'{"n": "x"}'), delivery(b'{"n": 3}'), delivery(b'{"n": 1}')]
    with GuardedExpression(
        Expression('.body.n | if type == "string" then error("a \\"word\\"") else . > 2 end')
    ) as guarded:
        assert guarded.decide([question(each) for each in made]) == [None, True, False]
        assert guarded.undecided.sentences() == ['1 message: --where fails on it: a "word"']
    assert decided("if .body.n == 3 then halt_error else true end", *made) == [True, None, True]


def test_undecided_are_counted_by_reason_over_many_batches() -> None:
    flow = [delivery(b'{"n": 1}'), *(delivery(body, **properties) for body, properties, _ in UNREAD.values())]
    flow += [delivery(b'{"n":%s' % (b" " * number)) for number in range(3)]
    flow *= BATCH_MESSAGES // 8
    with GuardedExpression(Expression(".body.n == 1 and .body.m == 2")) as guarded:
        answers = guarded.decide([question(each, only=guarded.reads) for each in flow])
        times = BATCH_MESSAGES // 8
        assert answers.count(None) == guarded.undecided.total == times * (len(UNREAD) + 3)
        assert answers.count(False) == times
        reasons = guarded.undecided.reasons
        assert sum(reasons.values()) == guarded.undecided.total
        for _, _, why in UNREAD.values():
            assert any(why in reason for reason in reasons), why
        told = f"{times * 4:,} bodies could not be read: not JSON: Input data was truncated"
        assert told in guarded.undecided.sentences()
        assert guarded.notes() == [f"`.body.m`: none of {times} messages has it"]


def test_reasons_without_end_are_told_as_others() -> None:
    flow = [delivery(b"x", content_encoding=f"x{'y' * number}") for number in range(30)]
    with GuardedExpression(Expression(".body")) as guarded:
        guarded.decide([question(each) for each in flow])
        assert len(guarded.undecided.reasons) == 21
        assert guarded.undecided.sentences()[-1] == "10 bodies could not be read: other reasons"


def test_a_key_makes_an_encrypted_body_readable() -> None:
    keys = Keyring({"k1": new_key()})
    made = delivery(b'{"keep": true}', message_id="m-1")
    encode_body(made, keys=keys)
    assert decided(".body.keep", made) == [None]
    assert decided(".body.keep", made, keys=keys) == [True]


# --- commands, on a real broker


@pytest.fixture
def shell(yard: Yard, busctl: Busctl, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    monkeypatch.setenv("BUSCTL_AMQP_URL", yard.amqp_url)
    monkeypatch.setenv("BUSCTL_API_URL", yard.api_url)
    return busctl


def fill(yard: Yard, queue: str, *more: bytes) -> None:
    """All that cannot be read, and some that can: one is to be kept, one is not."""
    bodies = [(b'{"keep": false}', {}), (b'{"keep": true}', {}), *((body, {}) for body in more)]
    bodies += [(body, properties) for body, properties, _ in UNREAD.values()]
    envelopes = []
    for body, properties in bodies:
        made = Properties(delivery_mode=2, **properties)
        envelopes.append(Envelope(exchange="", routing_key=queue, properties=made, body=body))
    yard.publish(envelopes)


WHERE = ("--where", ".body.keep != true")


@pytest.mark.parametrize("verb", ["discard", "move", "park", "copy", "replay"])
def test_changing_verbs_leave_what_they_cannot_decide(yard: Yard, shell: Callable[..., Ended], verb: str) -> None:
    fill(yard, "dead")
    target = {
        "move": ["elsewhere"],
        "copy": ["elsewhere"],
        "park": ["--to", "elsewhere"],
        "replay": ["--to", "elsewhere"],
    }
    words = (verb, "dead", *target.get(verb, []), *WHERE)
    plan = shell(*words, "--dry-run")
    assert f"undecided {len(UNREAD)} messages, left where they are; --undecided take takes them" in plan.stdout
    assert "2 bodies could not be read: encoded as 'br' (Brotli), which is not read here" in plan.stdout
    told = json.loads(shell(*words, "--dry-run", "-o", "json").stdout)
    assert (told["selected"], told["undecided"], sum(told["undecided_why"].values())) == (1, len(UNREAD), len(UNREAD))
    before = sorted(each.body for each in yard.drain("dead"))
    fill(yard, "dead")
    done = shell(*words, "--yes", "-o", "json")
    assert done.returncode == 0
    account = json.loads(done.stdout)
    assert (account["state"], account["planned"], account["moved"], account["undecided"]) == ("done", 1, 1, len(UNREAD))
    assert json.loads(shell("ops", account["id"], "-o", "json").stdout)["undecided"] == len(UNREAD)
    left = sorted(each.body for each in yard.drain("dead"))
    assert left == sorted([*before] if verb == "copy" else [body for body in before if body != b'{"keep": false}'])
    assert [each.body for each in yard.drain("elsewhere")] == ([] if verb == "discard" else [b'{"keep": false}'])


@pytest.mark.parametrize("verb", ["discard", "move", "replay"])
def test_they_are_taken_where_that_is_asked_for(yard: Yard, shell: Callable[..., Ended], verb: str) -> None:
    fill(yard, "dead")
    target = {"move": ["elsewhere"], "replay": ["--to", "elsewhere"]}
    words = (verb, "dead", *target.get(verb, []), *WHERE, "--undecided", "take")
    assert f"{len(UNREAD)} messages, taken all the same" in shell(*words, "--dry-run").stdout
    account = json.loads(shell(*words, "--yes", "-o", "json").stdout)
    assert (account["moved"], account["undecided"]) == (len(UNREAD) + 1, 0)
    assert [each.body for each in yard.drain("dead")] == [b'{"keep": true}']
    taken = sorted(each.body for each in yard.drain("elsewhere"))
    assert taken == ([] if verb == "discard" else sorted([b'{"keep": false}', *(body for body, *_ in UNREAD.values())]))


def test_of_a_quorum_queue_too_and_when_it_is_too_long_to_be_held(quorum_yard: Yard) -> None:
    yard = quorum_yard
    envelopes = [
        Envelope(exchange="", routing_key="dead", properties=Properties(delivery_mode=2), body=b'{"n":%d}' % number)
        for number in range(2_100)
    ]
    for number in (5, 1_000, 2_050):
        envelopes[number].body = b"{broken"
    yard.publish(envelopes)
    request = Request(kind="move", source="dead", target="elsewhere", where=".body.n % 2 == 0", rewrite=True)
    with yard.journal() as journal, Transfer(yard.broker, yard.management, journal, request) as transfer:
        list(transfer.planning())
        assert transfer.plan is not None
        assert (transfer.plan.undecided, transfer.plan.examined) == (2, 2_000)
        list(transfer.running())
        assert transfer.account is not None
        operation = transfer.account.operation
    assert operation.undecided == 3
    assert yard.waiting("elsewhere") == operation.moved == 1_048
    assert sum(each.body == b"{broken" for each in yard.drain("dead")) == 3


def test_looking_verbs_leave_them_out_and_say_how_many_and_why(yard: Yard, shell: Callable[..., Ended]) -> None:
    fill(yard, "dead")
    peek = ("peek", "dead", "-n", "50", "-o", "jsonl")
    some = shell(*peek, *WHERE)
    assert [json.loads(line)["text"] for line in some.stdout.splitlines()] == ['{"keep": false}']
    assert "2 bodies could not be read: encoded as 'br' (Brotli), which is not read here: left out" in some.stderr
    assert "1 body could not be read: unknown encoding 'foo': left out; --undecided show shows them" in some.stderr
    assert "1 body could not be read: a Python pickle: left out" in some.stderr
    every = shell(*peek, *WHERE, "--undecided", "show")
    assert len(every.stdout.splitlines()) == len(UNREAD) + 1
    assert "unknown encoding 'foo': taken all the same" in every.stderr
    by_type = shell(*peek, "--where", '.properties.type == "amqp-1.0"')
    assert len(by_type.stdout.splitlines()) == 1
    assert "could not be read" not in by_type.stderr


@pytest.mark.parametrize("command", ["tail", "record"])
def test_of_what_comes_too(yard: Yard, shell: Callable[..., Ended], tmp_path: Path, command: str) -> None:
    yard.broker.declare_queue("log", arguments={"x-queue-type": "stream"})
    fill(yard, "log")
    fill(yard, "log", b'{"last": 1}')
    file = tmp_path / "log.jsonl"
    words = ("tail", "log", "-o", "jsonl") if command == "tail" else ("record", str(file), "log")
    some = shell(*words, "--since", "first", "-n", "3", *WHERE)
    lines = some.stdout if command == "tail" else file.read_text()
    assert [json.loads(line)["text"] for line in lines.splitlines()] == ['{"keep": false}'] * 2 + ['{"last": 1}']
    assert some.stderr.count("--where cannot decide a message") == 1
    assert "1 body could not be read: unknown encoding 'foo': left out" in some.stderr
    file.unlink(missing_ok=True)
    every = shell(*words, "--since", "first", "-n", "10", *WHERE, "--undecided", "show")
    assert "taken all the same" in every.stderr
    assert len((every.stdout if command == "tail" else file.read_text()).splitlines()) == 10


def test_play_leaves_them_out_of_what_it_sends(yard: Yard, shell: Callable[..., Ended], tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    with CaptureWriter(file) as capture:
        for body, properties, _ in UNREAD.values():
            capture.write(delivery(body, **properties))
        capture.write(delivery(b'{"keep": false}'))
    words = ("play", str(file), "--to", "elsewhere", *WHERE)
    dry = shell(*words, "--dry-run")
    assert "1 message would be sent" in dry.stderr
    assert "1 body could not be read: a Python pickle: left out; --undecided take sends them" in dry.stderr
    account = json.loads(shell(*words, "--yes", "-o", "json").stdout)
    assert (account["planned"], account["confirmed"], account["undecided"]) == (1, 1, len(UNREAD))
    account = json.loads(shell(*words, "--yes", "-o", "json", "--undecided", "take").stdout)
    assert (account["planned"], account["undecided"]) == (len(UNREAD) + 1, 0)
    wait_until(lambda: yard.waiting("elsewhere") == len(UNREAD) + 2)


def test_a_field_that_no_message_has_is_noted(yard: Yard, shell: Callable[..., Ended]) -> None:
    yard.put(5)
    note = "`.body.simbol`: none of 5 messages has it"
    assert note in shell("discard", "dead", "--where", '.body.simbol == "AAPL"', "--dry-run").stdout
    assert (
        note
        in json.loads(shell("move", "dead", "elsewhere", "--where", ".body.simbol", "--dry-run", "-o", "json").stdout)[
            "warnings"
        ]
    )
    assert note in shell("peek", "dead", "--where", "select(.body.simbol)").stderr
    assert note in shell("peek", "dead", "--where", ".body | .simbol").stderr
    assert '`.headers["x y"]`: none of 5' in shell("peek", "dead", "--where", '.headers["x y"] // .body.n').stderr
    assert "none of" not in shell("peek", "dead", "--where", ".body.n > 3 and .properties.message_id").stderr


# --- the console


def test_the_sieve_counts_anew_for_each_filter_and_shows_them_on_request() -> None:
    rows = [delivery(body, **properties) for body, properties, _ in UNREAD.values()]
    rows += [delivery(b'{"keep": false}'), delivery(b'{"keep": true}')]
    told: list[Sifted[Delivery]] = []
    sieve: Sieve[Delivery] = Sieve(lambda row: row.routing_key, question, told.append, "messages")
    try:
        for text, passed in [
            ("=.body.keep != true", 1),
            ("!=.body.keep != true", 1),
            ("=?.body.keep != true", 1 + len(UNREAD)),
            ("!=?.body.keep != true", 1 + len(UNREAD)),
            ("=.body.simbol", 0),
        ]:
            chosen, before = Filter(text), len(told)
            sieve.choose(chosen)
            sieve.put(rows)
            wait_until(lambda: len(told) > before)  # noqa: B023
            assert len(told[-1].passed) == passed
            assert "1 body could not be read: unknown encoding 'foo'" in told[-1].told
        assert told[-1].told[-1] == "`.body.simbol`: none of 2 messages has it"
    finally:
        sieve.close()


def test_text_is_sought_in_what_is_shown() -> None:
    shown = "café"
    for body, properties in [
        (shown.encode("latin-1"), {"content_type": "text/plain; charset=latin1"}),
        (gzip.compress(shown.encode()), {"content_encoding": "gzip"}),
        (shown.encode(), {}),
    ]:
        assert Filter("CAFé").matches(matched_text(delivery(body, **properties))) is False
        assert Filter("café").matches(matched_text(delivery(body, **properties)))


def test_a_filter_that_shows_the_undecided_is_jq_all_the_same() -> None:
    assert not Filter("=?")
    assert Filter("=?.body").program == ".body"
    with pytest.raises(ValueError, match="jq"):
        Filter("=?.body |")


@on_loop
async def test_the_console_says_what_its_filter_could_not_decide(yard: Yard, vhost: Any) -> None:
    fill(yard, "dead")
    async with console_opened(vhost, (160, 40)) as console:
        await console.command("peek dead")
        await console.shows('{"keep": false}')
        await console.type("/=.body.keep == false")
        await console.press("enter")
        await console.shows("▲ 2 bodies could not be read", "(=? shows them)")
        await console.press("escape")
        await console.type("/=?.body.keep == false")
        await console.press("enter")
        await console.shows("<a Python pickle: 80 04")


def test_a_question_without_anything_hidden_is_a_document() -> None:
    assert question(delivery(b"{}"), only=frozenset({"size"})) == Question(b'{"size":2}')
