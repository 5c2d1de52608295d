"""Percentiles and histograms of calls, and the pairing of requests with replies."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from busctl.views import calls
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import ReplyTimeout
from busctl_lib.rpc.load import Load, LoadReport, histogram, percentile
from busctl_lib.rpc.pairs import Pairs


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.5) == 7
    assert percentile([], 0.5) is None


def test_a_histogram_counts_every_value_once() -> None:
    values = sorted([0.0004, 0.0011, 0.0012, 0.003, 0.3])
    bars = histogram(values)
    assert [(bar.up_to_s, bar.count) for bar in bars if bar.count] == [
        (pytest.approx(0.0005), 1),
        (pytest.approx(0.002), 2),
        (pytest.approx(0.005), 1),
        (pytest.approx(0.5), 1),
    ]
    assert sum(bar.count for bar in bars) == len(values)
    assert histogram([]) == []


def test_a_load_makes_all_calls_and_counts_each_kind_of_failure() -> None:
    numbers = itertools.count()
    lock = threading.Lock()

    def call() -> None:
        with lock:
            number = next(numbers)
        if number % 4 == 0:
            raise ReplyTimeout("no reply")

    report = Load(call, count=100, concurrency=8).run()
    assert (report.replied, report.failed, report.done) == (75, {"ReplyTimeout": 25}, 100)
    assert len(report.latencies_s) == 75
    lines = calls.load_lines(report, 8, {"duplicate": 2, "late": 0})
    assert "75 of 100 replied" in lines[0]
    assert "25 ReplyTimeout" in lines[0]
    assert lines[1] == "replies that belong to no call: 2 duplicate"


def test_a_fault_of_the_caller_is_not_swallowed() -> None:
    def call() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Load(call, count=3).run()


def test_a_stopped_load_says_what_was_not_made() -> None:
    load = Load(lambda: load.stop(), count=10)
    report = load.run()
    assert report.replied == 1
    assert "9 not made" in calls.load_lines(report, 1, {})[0]
    assert calls.load_json(LoadReport(planned=3), {}) == {"planned": 3, "replied": 0, "elapsed_s": 0.0}


# --- pairs


def message(key: str, at: float, body: bytes = b"{}", **properties: Any) -> Delivery:
    return Delivery(
        exchange="", routing_key=key, properties=Properties(**properties), body=body, queue=None, received_at=at
    )


def ask(correlation_id: str | None, at: float, queue: str = "q", **properties: Any) -> Delivery:
    return message(queue, at, b'{"action": "do"}', correlation_id=correlation_id, reply_to="back", **properties)


def answer(correlation_id: str | None, at: float, **properties: Any) -> Delivery:
    return message("back", at, correlation_id=correlation_id, **properties)


def states(pairs: Pairs, *deliveries: Delivery) -> list[tuple[str, str, float | None]]:
    return [(one.state, one.method, one.latency_s) for delivery in deliveries for one in pairs.take(delivery)]


def test_replies_find_their_requests_in_any_order() -> None:
    pairs = Pairs()
    found = states(pairs, ask("1", 10), ask("2", 11), answer("2", 12), answer("1", 14))
    assert found == [("answered", "do", 1), ("answered", "do", 4)]
    figures = pairs.figures()[0]
    assert (figures.answered, figures.percentile(0.5), pairs.open) == (2, 1, 0)


def test_a_request_without_a_reply_is_an_orphan_once_and_its_reply_late() -> None:
    pairs = Pairs(patience_s=5)
    assert states(pairs, ask("1", 10), ask("2", 10, expiration="1000")) == []
    assert [one.correlation_id for one in pairs.expire(12)] == ["2"]
    assert list(pairs.expire(12)) == []
    assert states(pairs, answer("2", 13)) == [("late", "do", 3)]
    assert states(pairs, answer("1", 20)) == [("late", "do", 10)]  # nobody looked in between
    figures = pairs.figures()[0]
    assert (figures.answered, figures.orphans, figures.late) == (0, 1, 2)


def test_second_replies_replies_without_id_and_unknown_ones_are_told_apart() -> None:
    pairs = Pairs()
    replies = [answer("1", 11), answer("1", 12), answer(None, 13), answer("9", 14)]
    assert [state for state, _, _ in states(pairs, ask("1", 10), *replies)] == [
        "answered",
        "duplicate",
        "uncorrelated",
        "unasked",
    ]
    assert states(pairs, message("elsewhere", 15, correlation_id="7")) == []  # an ordinary message


def test_only_the_queue_that_was_asked_for_counts() -> None:
    pairs = Pairs("q")
    assert states(pairs, ask("1", 10, queue="other"), answer("1", 11)) == []
    direct = message("amq.rabbitmq.reply-to.x", 12, correlation_id="5")
    assert states(pairs, direct) == []
    assert [state for state, _, _ in states(Pairs(), direct)] == ["unasked"]


def test_error_replies_are_counted_and_shown_harmlessly() -> None:
    pairs = Pairs()
    failed = answer("1", 11, headers={"busctl-error": "Bad\x1b[31m"})
    found = [one for delivery in (ask("1", 10), failed) for one in pairs.take(delivery)]
    assert pairs.figures()[0].errors == 1
    assert "\x1b" not in calls.spied_line(found[0])[0]
    assert calls.spied_json(found[0])["error"] == "Bad\x1b[31m"
