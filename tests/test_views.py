"""What people read: numbers, times, foreign text, the word for a queue's state, tables."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from busctl.views import formats
from busctl.views.happenings import Heard, happened
from busctl.views.nodes import NODES
from busctl.views.overview import attention, facts
from busctl.views.queues import QUEUES, dead_letter_queue, features, rates_between, state
from busctl.views.takers import Taker, holds, share
from busctl.views.view import Tone
from busctl_lib.errors import ApiUnreachable, ConfigError
from busctl_lib.events import Event
from busctl_lib.management import ConsumerInfo, Details, MessageStats, NodeInfo, OverviewInfo, QueueInfo, Sample
from busctl_lib.management.infos import ChannelInfo
from busctl_lib.poller import Snapshot

# --- numbers and times


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, formats.UNKNOWN),
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.0k"),
        (1234, "1.2k"),
        (12_345, "12.3k"),
        (99_949, "99.9k"),
        (99_950, "100k"),
        (123_456, "123k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (4_500_000, "4.5M"),
        (-1234, "-1.2k"),
    ],
)
def test_a_count_takes_five_characters_at_most(number: float | None, text: str) -> None:
    assert formats.count(number) == text


@given(st.floats(min_value=0, max_value=1e15))
def test_a_count_is_never_longer_than_five_characters(number: float) -> None:
    assert len(formats.count(number)) <= 5


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(None, formats.UNKNOWN), (0, "0"), (0.02, "<0.1"), (0.2, "0.2"), (9.96, "10"), (41.4, "41"), (1234, "1.2k")],
)
def test_a_rate_says_not_known_apart_from_zero(per_s: float | None, text: str) -> None:
    assert formats.rate(per_s) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (None, formats.UNKNOWN),
        (0, "0 B"),
        (87, "87 B"),
        (1_234, "1.2 kB"),
        (61_000_000_000, "61.0 GB"),
        (123e9, "123 GB"),
    ],
)
def test_sizes(n_bytes: float | None, text: str) -> None:
    assert formats.size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, formats.UNKNOWN),
        (0.0041, "4.1 ms"),
        (0.041, "41 ms"),
        (0.9996, "1 s"),
        (4, "4 s"),
        (59.9, "59 s"),
        (60, "1 m"),
        (2400, "40 m"),
        (3 * 3600, "3 h"),
        (47 * 3600, "47 h"),
        (4 * 86400, "4 d"),
    ],
)
def test_a_duration_reads_in_its_largest_unit(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_an_age_below_ten_seconds_keeps_a_tenth() -> None:
    assert [formats.age(s) for s in (None, 0.42, 14, 7300)] == ["never", "0.4 s ago", "14 s ago", "2 h ago"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("2.5s", 2.5), ("3", 3)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert formats.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5x", "-3s", "5 s 3", "1h-2m", "\u0663s", "nan", "1e3"])
def test_what_is_not_a_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="500ms"):
        formats.parse_duration(text)


# --- sparklines


def test_a_sparkline_shows_any_message_above_the_ground_and_blanks_for_the_unknown() -> None:
    assert formats.sparkline([None, 0, 1, 500, 1000]) == " ▁▂▅█"


def test_sparklines_of_a_column_share_a_scale() -> None:
    assert formats.sparkline([10, 10], top=100) == "▂▂"
    assert formats.sparkline([10, 10]) == "██"


def test_buckets_hold_the_last_value_until_the_next_and_know_nothing_before_the_first() -> None:
    samples = [(70.0, 5.0), (71.0, 6.0), (95.0, 9.0)]
    assert formats.buckets(samples, 5, 50, now=100) == [None, None, 6.0, 6.0, 9.0]
    assert formats.buckets([(10.0, 3.0)], 2, 50, now=100) == [3.0, 3.0]
    assert formats.buckets([], 3, 50, now=100) == [None, None, None]


# --- foreign text


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Z", "C", "M"])), st.booleans())
@example("\x1b]0;owned\x07", False)
@example("a\u202egnp.exe\u200b\ufeff\ud800\x9b31m", False)
def test_safe_text_leaves_nothing_that_acts_on_a_terminal(text: str, keep_lines: bool) -> None:
    safe = formats.safe_text(text, keep_lines=keep_lines)
    acting = {c for c in safe if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acting <= ({"\n"} if keep_lines else set())
    safe.encode("utf-8")


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_safe_text_leaves_harmless_text_as_it_is(text: str) -> None:
    assert formats.safe_text(text) == text


@given(st.text(), st.integers(min_value=0, max_value=20))
def test_safe_text_is_never_longer_than_its_limit(text: str, limit: int) -> None:
    safe = formats.safe_text(text, limit)
    assert len(safe) <= limit
    if len(formats.safe_text(text)) <= limit:
        assert safe == formats.safe_text(text)


def test_what_acts_on_a_terminal_is_written_out() -> None:
    assert formats.safe_text("\x1b[2J\n\t\u202e") == r"\x1b[2J\n\t\u202e"
    assert formats.safe_text("a\tb\r\nc\r", keep_lines=True) == "a  b\nc\\r"
    assert formats.safe_text("abcdef", 4) == "abc…"


def test_wide_and_combining_characters_take_their_cells() -> None:
    assert [formats.cell_width(text) for text in ("ab", "注文", "e\u0301")] == [2, 4, 1]


# --- queues


def queue(name: str = "q", **known: object) -> QueueInfo:
    return QueueInfo(name=name, vhost="/", **known)  # type: ignore[arg-type]


def rates(publish: float, deliver: float) -> MessageStats:
    return MessageStats(publish_details=Details(rate=publish), deliver_get_details=Details(rate=deliver))


@pytest.mark.parametrize(
    ("info", "word", "tone"),
    [
        (queue(state="down", messages=5), "down", Tone.BAD),
        (queue("q.dead", messages=3, consumers=0), "dead letters", Tone.BAD),
        (queue("q.dead", messages=0, consumers=0, message_stats=rates(0, 0)), "idle", Tone.MUTED),
        (queue(messages=3, consumers=0), "no consumer", Tone.WARN),
        (queue(messages=300, consumers=1, messages_details=Details(rate=41)), "growing 41/s", Tone.WARN),
        (queue(messages=3, consumers=1, messages_details=Details(rate=41), message_stats=rates(9, 1)), "ok", Tone.GOOD),
        (queue(messages=300, consumers=1, messages_details=Details(rate=-5)), "draining 5.0/s", Tone.NORMAL),
        (queue(state="flow", messages=3, consumers=1), "flow", Tone.WARN),
        (queue(messages=0, consumers=1, message_stats=rates(2, 2)), "ok", Tone.GOOD),
        (queue(messages=0, consumers=0, message_stats=rates(0, 0)), "idle", Tone.MUTED),
        (queue(messages=0), "empty", Tone.MUTED),
        (queue(messages=7), formats.UNKNOWN, Tone.MUTED),
        (queue(type="stream"), formats.UNKNOWN, Tone.MUTED),
        (queue(type="stream", messages=9, consumers=0, message_stats=rates(1, 0)), "ok", Tone.GOOD),
    ],
)
def test_a_word_says_the_state_of_a_queue(info: QueueInfo, word: str, tone: Tone) -> None:
    assert state(info).word == word
    assert state(info).tone is tone


@pytest.mark.parametrize(
    "name",
    [
        *(
            "q.dead",
            "q.dlq",
            "orders_error",
            "DLQ",
            "x-dead-letter",
            "orders.DEAD",
            "x.errors",
            "failed",
            "orders.failed",
        ),
        *("failed", "default.XQ", "EasyNetQ_Default_Error_Queue", "orders.created.dlq"),
    ],
)
def test_dead_letter_queues_are_known_by_their_name(name: str) -> None:
    assert state(queue(name, messages=1)).word == "dead letters"


def test_a_queue_that_is_consumed_merely_has_such_a_name() -> None:
    assert state(queue("orders.failed", messages=1, consumers=1)).word != "dead letters"


@pytest.mark.parametrize("name", ["q.parked", "orders.parkingLot", "busctl.parking", "parking-lot"])
def test_what_was_put_aside_is_no_alarm(name: str) -> None:
    assert (state(queue(name, messages=1)).word, state(queue(name, messages=1)).tone) == ("parked", Tone.NORMAL)


@pytest.mark.parametrize("name", ["deadline", "q.deadly", "undead", "orders"])
def test_other_queues_are_not_dead_letter_queues(name: str) -> None:
    assert state(queue(name, messages=1)).word != "dead letters"


def test_what_is_not_known_is_never_shown_as_zero() -> None:
    cells = {column.name: column.text(queue()) for column in QUEUES.columns}
    numbers = ("messages_ready", "messages_unacknowledged", "messages", "consumers", "in", "out", "ack", "memory")
    assert {cells[name] for name in numbers} == {formats.UNKNOWN}


def test_what_is_not_known_sorts_last_in_both_directions() -> None:
    infos = [queue("b", messages=5), queue("x"), queue("a", messages=9)]
    assert [info.name for info in QUEUES.sorted(infos, "messages")] == ["b", "a", "x"]
    assert [info.name for info in QUEUES.sorted(infos, "-messages")] == ["a", "b", "x"]
    assert [info.name for info in QUEUES.sorted(infos)] == ["a", "b", "x"]


def test_a_wrong_column_names_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError) as caught:
        QUEUES.column("mesages")
    assert caught.value.hint == "did you mean messages?"


def test_json_has_the_names_of_the_api_and_leaves_out_what_is_not_known() -> None:
    info = queue(messages=0, message_stats=rates(1.5, 0))
    assert QUEUES.json(info) == {
        "name": "q",
        "vhost": "/",
        "messages": 0,
        "message_stats": {"publish_details": {"rate": 1.5}, "deliver_get_details": {"rate": 0}},
    }


def test_a_hostile_queue_name_is_harmless_in_a_row() -> None:
    cells = QUEUES.row(queue("\x1b[31mred\u202e"))
    assert cells[0].text == r"\x1b[31mred\u202e"


def test_features_come_from_arguments_and_policies_alike() -> None:
    info = queue(
        durable=True,
        arguments={"x-message-ttl": 5, "x-dead-letter-exchange": ""},
        effective_policy_definition={"max-length": 5},
        policy="p",
    )
    assert features(info) == "D TTL DLX Lim Pol"


def test_rates_come_from_the_differences_of_a_count_and_survive_its_reset() -> None:
    samples = [Sample(20, 15_000), Sample(120, 10_000), Sample(100, 5_000), Sample(0, 0)]
    assert rates_between(samples) == [(5.0, 20.0), (10.0, 4.0)]
    assert rates_between(None) == []


# --- nodes and overview


def test_a_node_in_trouble_says_so_in_words() -> None:
    well, ill = NodeInfo(name="a", running=True), NodeInfo(name="b", running=True, mem_alarm=True, partitions=["a"])
    assert [NODES.column("state").text(info) for info in (well, ill)] == [
        "running",
        "✖ memory alarm, network partition",
    ]
    assert NODES.column("state").cell(ill).tone is Tone.BAD


def test_attention_lists_the_worst_and_the_fullest_first() -> None:
    infos = [
        queue("few", messages=1, messages_ready=1, consumers=0),
        queue("fine", messages=0, consumers=1),
        queue("many", messages=900, messages_ready=900, consumers=1, messages_details=Details(rate=41)),
        queue("q.dead", messages=318, consumers=0),
    ]
    found = attention(infos, [NodeInfo(name="n", running=False)])
    assert [(item.mark, item.name, item.text) for item in found] == [
        ("✖", "n", "down"),
        ("✖", "q.dead", "318 dead letters"),
        ("▲", "many", "growing 41/s, 900 ready, 1 consumer"),
        ("∅", "few", "no consumer, 1 ready"),
    ]


def test_an_overview_without_the_monitoring_tag_says_what_it_cannot_see() -> None:
    lines = {fact.label: fact for fact in facts(OverviewInfo(rabbitmq_version="4.0.5"), None)}
    assert "monitoring tag" in lines["nodes"].text
    assert "monitoring tag" in lines["alarms"].text
    assert lines["rates"].text == f"{formats.UNKNOWN}/s in, {formats.UNKNOWN}/s out"


def test_a_queue_whose_messages_wait_for_their_time_is_not_missing_a_consumer() -> None:
    arguments = {"x-message-ttl": 5000, "x-dead-letter-exchange": ""}
    waiting = QueueInfo(name="q.retry", vhost="/", messages=3, messages_ready=3, consumers=0, arguments=arguments)
    assert state(waiting).word == "delay"
    waiting.arguments = {"x-message-ttl": 5000}
    assert state(waiting).word == "no consumer"


# --- what just happened


def seen(*queues: tuple[str, int | None], connections: int = 1, running: bool = True, **more: Any) -> Snapshot:
    infos = [QueueInfo(name=name, vhost="/", consumers=consumers) for name, consumers in queues]
    overview = msgspec.convert({"object_totals": {"connections": connections}}, OverviewInfo)
    return Snapshot(
        sequence=1,
        overview=overview,
        nodes=[NodeInfo(name="rabbit@a", running=running)],
        queues={info.key: info for info in infos},
        taken_at=1.0,
        **{"listed_at": 1.0, **more},
    )


def test_what_changed_between_two_snapshots_is_told() -> None:
    before = seen(
        ("gone", 0), ("orders", 2), ("trades", 1), ("unknown", None), ("busctl.tap.x", 0), ("busctl.tap.z", 0)
    )
    after = seen(
        *(("new", 0), ("orders", 1), ("trades", 0), ("unknown", 3), ("busctl.tap.y", 0), ("busctl.tap.z", 1)),
        connections=3,
        running=False,
    )
    told = {(found.text, found.tone, found.key) for found in happened(before, after, 5.0)}
    assert told == {
        ("queue new created", Tone.GOOD, ("/", "new")),
        ("queue gone deleted", Tone.WARN, None),
        ("consumer left orders, 1 now", Tone.WARN, ("/", "orders")),
        ("consumer left trades, none now", Tone.BAD, ("/", "trades")),
        ("2 connections were opened, 3 now", Tone.NORMAL, None),
        ("node rabbit@a: down", Tone.BAD, None),
    }


def test_many_of_a_kind_are_told_as_a_number_and_a_lost_api_once() -> None:
    before, after = seen(), seen(*((f"q{number}", 0) for number in range(1200)))
    lost = replace(before, error=ApiUnreachable("no answer", reason="refused"))
    assert [found.text for found in happened(before, after, 5.0)] == ["1.2k queues created"]
    assert [found.text for found in happened(before, lost, 5.0)] == ["the API is away: refused"]
    assert happened(lost, lost, 5.0) == []
    assert [found.text for found in happened(lost, before, 5.0)] == ["the API answers again"]
    assert happened(Snapshot(sequence=0), after, 5.0) == []


def event(kind: str, name: str, second: int = 0, user: str | None = "ann", **details: Any) -> Event:
    at = f"2026-01-02T10:00:{second:02}.000Z"
    return Event(event=kind, at=at, via="exchange", name=name, vhost="/", user=user, details=details)


def test_what_the_broker_told_is_shown_in_its_place_and_no_difference_twice() -> None:
    before, after = seen(("orders", 1), ("trades", 2), listed_at=1.0), seen(("orders", 0), ("trades", 1), ("new", 0))
    heard = [
        event("queue.created", "new", 1),
        event("queue.created", "brief", 2),
        event("queue.deleted", "brief", 3, user="rmq-internal"),
        event("consumer.deleted", "tag of orders", 4, queue="orders"),
        event("consumer.deleted", "tag of orders", 5, queue="orders"),
        event("connection.created", "1.2.3.4:5 -> 6", 6, user_provided_name="desk"),
        event("binding.created", "x -> busctl.tap.y ''", 7, destination_name="busctl.tap.y"),
        event("consumer.created", "tag of busctl.tap.y", 8, queue="busctl.tap.y"),
        event("channel.created", "1.2.3.4:5 -> 6 (1)", 9),
    ]
    told = [(found.text, found.tone, found.key) for found in happened(before, after, 5.0, Heard(heard, since=0.5))]
    assert told == [
        ("queue new created by ann", Tone.GOOD, ("/", "new")),
        ("queue brief created by ann", Tone.GOOD, None),
        ("queue brief deleted", Tone.WARN, None),
        ("consumer left orders, 2 times", Tone.WARN, ("/", "orders")),
        ("connection desk opened by ann", Tone.NORMAL, None),
        ("orders has no consumer left", Tone.BAD, ("/", "orders")),
    ]


def test_where_something_may_have_been_missed_the_differences_are_told_as_well() -> None:
    before, after = seen(("gone", 0), listed_at=1.0), seen(("new", 0), ("newer", 0))
    for since in (None, 1.5):
        found = happened(before, after, 5.0, Heard([event("queue.created", "new")], since))
        assert {each.text for each in found} == {
            "queue new created by ann",
            "queue gone deleted",
            "queue newer created",
        }


def test_many_that_were_told_at_once_are_a_number() -> None:
    heard = [event("connection.closed", f"c{number}") for number in range(7)]
    lost = seen(*((f"q{number}", 0) for number in range(9)), listed_at=2.0)
    had = seen(*((f"q{number}", 1) for number in range(9)), listed_at=1.0)
    found = happened(had, lost, 5.0, Heard(heard, since=0.5))
    assert [each.text for each in found] == ["7 connections were closed", "9 queues have no consumer left"]


# --- what a consumer holds


@pytest.mark.parametrize(
    ("consumer", "channel", "part", "text"),
    [
        ({"prefetch_count": 10}, {"consumer_count": 1, "messages_unacknowledged": 5}, 0.5, "━━━━──── 5 of 10"),
        ({"prefetch_count": 10}, {"consumer_count": 1, "messages_unacknowledged": 10}, 1.0, "━━━━━━━━ 10 of 10 ▲"),
        ({"prefetch_count": 10}, None, None, "– of 10"),
        ({"prefetch_count": 10}, {"consumer_count": 1}, None, "– of 10"),
        ({"prefetch_count": 10}, {"consumer_count": 3, "messages_unacknowledged": 7}, None, "7 by 3 on its channel"),
        ({"prefetch_count": 0}, {"consumer_count": 1, "messages_unacknowledged": 7}, None, "7, no limit"),
        ({"ack_required": False}, {"consumer_count": 1, "messages_unacknowledged": 0}, None, "never waits for acks"),
    ],
)
def test_what_a_consumer_holds_is_shown_where_it_can_be_told(
    consumer: dict[str, Any], channel: dict[str, Any] | None, part: float | None, text: str
) -> None:
    raw = {"consumer_tag": "c", "queue": {"name": "q", "vhost": "/"}, "ack_required": True, **consumer}
    known = msgspec.convert({"name": "ch", **channel}, ChannelInfo) if channel is not None else None
    taker = Taker(msgspec.convert(raw, ConsumerInfo), known)
    assert (share(taker), holds(taker)) == (part, text)


def test_the_queue_of_the_dead_letters_is_named_where_the_arguments_name_it() -> None:
    to_queue = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q.dead"}
    assert dead_letter_queue(queue("q", arguments=to_queue)) == "q.dead"
    assert dead_letter_queue(queue("q.dead", arguments=to_queue)) is None
    assert dead_letter_queue(queue("q", arguments={**to_queue, "x-dead-letter-exchange": "dlx"})) is None
    assert dead_letter_queue(queue("q")) is None
