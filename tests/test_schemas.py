"""The bus's messages: what validates, what is refused and how the refusal reads; arguments of RPC methods."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busctl_lib.errors import InvalidMessage
from busctl_lib.schemas import (
    METHODS,
    SCHEMAS,
    Order,
    OrderbookReply,
    OrderMessage,
    TradesReply,
    coerce,
    nearest,
    schema_of,
    validate,
)

SEED_ORDER: OrderMessage = {
    "action": "place_order",
    "user_id": 1,
    "symbol": "AAPL",
    "side": "buy",
    "quantity": 100.0,
    "price": 150.0,
    "order_type": "limit",
    "timestamp": 1234567890.0,
}


def refusal(message: object, schema: type = OrderMessage) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        validate(message, schema)
    return caught.value


def test_the_seeds_order_validates() -> None:
    validate(SEED_ORDER, OrderMessage)


def test_the_seeds_published_order_needs_neither_action_nor_type_nor_time() -> None:
    validate({"user_id": 1, "symbol": "AAPL", "side": "buy", "quantity": 100, "price": 150.0}, Order)


def test_integers_pass_for_numbers_and_the_message_stays_as_it_was() -> None:
    order = {**SEED_ORDER, "quantity": 100}
    before = copy.deepcopy(order)
    validate(order, OrderMessage)
    assert order == before
    assert type(order["quantity"]) is int


@pytest.mark.parametrize(
    ("change", "field", "expected", "found"),
    [
        ({"quantity": -5}, "quantity", "a number > 0", "-5"),
        ({"quantity": 0}, "quantity", "a number > 0", "0"),
        ({"side": "hold"}, "side", 'one of "buy", "sell"', '"hold"'),
        ({"order_type": "stop"}, "order_type", 'one of "limit", "market"', '"stop"'),
        ({"price": "150"}, "price", "a number > 0", '"150"'),
        ({"price": math.nan}, "price", "a number > 0", "nan"),
        ({"timestamp": math.inf}, "timestamp", "a number", "inf"),
        ({"timestamp": None}, "timestamp", "a number", "null"),
        ({"user_id": True}, "user_id", "an integer > 0", "true"),
        ({"user_id": 1.5}, "user_id", "an integer > 0", "1.5"),
        ({"symbol": ""}, "symbol", "a text of 1 to 12 characters", '""'),
        ({"action": "cancel_order"}, "action", '"place_order"', '"cancel_order"'),
        ({"price": 10**400}, "price", "a number > 0", "1" + "0" * 56 + "..."),
    ],
)
def test_a_refusal_names_field_expectation_and_finding(
    change: dict[str, Any], field: str, expected: str, found: str
) -> None:
    error = refusal({**SEED_ORDER, **change})
    assert (error.facts["field"], error.facts["expected"], error.facts["found"]) == (field, expected, found)
    assert field in str(error)
    assert expected in str(error)
    assert found in str(error)


def test_a_missing_field_is_named() -> None:
    error = refusal({name: value for name, value in SEED_ORDER.items() if name != "price"})
    assert (error.facts["field"], error.facts["found"]) == ("price", "nothing")


def test_an_unknown_field_is_refused_with_the_nearest_one() -> None:
    order: dict[str, Any] = dict(SEED_ORDER)
    order["quantty"] = order.pop("quantity")
    error = refusal(order)
    assert error.facts["field"] == "quantty"
    assert error.hint == "did you mean 'quantity'?"


def test_control_characters_of_a_foreign_key_are_escaped() -> None:
    assert "\x1b" not in str(refusal({**SEED_ORDER, "\x1b[2Jx": 1}))


def test_a_refusal_inside_arrays_carries_the_path() -> None:
    book = {"symbol": "A", "bids": [[1, 2], [1, "x"]], "asks": [], "last": None, "sequence": 1, "timestamp": 1}
    assert refusal(book, OrderbookReply).facts["field"] == "bids[1][1]"
    assert refusal({**book, "bids": [[1, math.nan]]}, OrderbookReply).facts["field"] == "bids[0][1]"
    assert refusal({"symbol": "A", "trades": [{"actin": "trade"}]}, TradesReply).facts["field"] == "trades[0].actin"
    assert refusal({"symbol": "A", "trades": [{"action": "trade"}]}, TradesReply).facts["field"] == "trades[0].trade_id"


@pytest.mark.parametrize("message", [[1], "text", None, 5])
def test_what_is_no_object_is_refused(message: object) -> None:
    assert refusal(message).facts["expected"] == "an object"


def test_a_schema_is_found_by_its_action_only() -> None:
    assert schema_of(SEED_ORDER) is OrderMessage
    assert schema_of({"action": "dance"}) is None
    assert schema_of({"action": ["place_order"]}) is None
    assert schema_of({}) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SCHEMAS)), st.data())
def test_whatever_is_mixed_into_a_message_is_accepted_unchanged_or_refused_by_name(
    action: str, data: st.DataObject
) -> None:
    schema = SCHEMAS[action]
    names = st.sampled_from(sorted(schema.__annotations__)) | st.text(max_size=8)
    message = {"action": action, **data.draw(st.dictionaries(names, _JSON, max_size=6))}
    before = copy.deepcopy(message)
    refused: InvalidMessage | None = None
    try:
        validate(message, schema)
    except InvalidMessage as error:
        refused = error
    if refused is None:
        json.dumps(message, allow_nan=False)
        assert set(message) <= set(schema.__annotations__) | set(Order.__annotations__)
    else:
        assert {"field", "expected", "found"} <= set(refused.facts)
    assert repr(message) == repr(before)


def test_every_method_is_a_known_action() -> None:
    for method in METHODS.values():
        assert SCHEMAS[method.name] is method.request


@pytest.mark.parametrize(
    ("name", "words", "request_"),
    [
        ("get_orderbook", "AAPL", {"symbol": "AAPL"}),
        ("get_orderbook", "AAPL 5", {"symbol": "AAPL", "depth": 5}),
        ("get_orderbook", "AAPL depth=5", {"symbol": "AAPL", "depth": 5}),
        ("get_orderbook", "depth:=5 symbol=AAPL", {"symbol": "AAPL", "depth": 5}),
        ("get_orderbook", "7", {"symbol": "7"}),
        ("get_symbols", "", {}),
        (
            "place_order",
            "1 AAPL buy 100 150.5",
            {"user_id": 1, "symbol": "AAPL", "side": "buy", "quantity": 100, "price": 150.5},
        ),
        (
            "place_order",
            "1 AAPL sell 1e2 150 timestamp=-1.5",
            {"user_id": 1, "symbol": "AAPL", "side": "sell", "quantity": 100.0, "price": 150, "timestamp": -1.5},
        ),
    ],
)
def test_words_become_a_request(name: str, words: str, request_: dict[str, Any]) -> None:
    message = coerce(METHODS[name], words.split())
    assert message == {"action": name, **request_}
    assert {key: type(value) for key, value in message.items() if key in request_} == {
        key: type(value) for key, value in request_.items()
    }


@pytest.mark.parametrize(
    ("name", "words", "field", "says"),
    [
        ("get_orderbook", "", "symbol", "found nothing"),
        ("get_orderbook", "AAPL x", "depth", 'an integer >= 1 and <= 100, found "x"'),
        ("get_orderbook", "AAPL 0", "depth", "found 0"),
        ("get_orderbook", "AAPL 5 6", "", "at most 2 arguments (symbol [depth])"),
        ("get_orderbook", "AAPL symbol=MSFT", "symbol", "a second one"),
        ("get_orderbook", "AAPL depht=5", "depht", "an argument of get_orderbook"),
        ("get_orderbook", "AAPL depth:=x", "depth", "as JSON"),
        ("place_order", "1 AAPL buy -100 150", "quantity", "a number > 0, found -100"),
        ("place_order", "1 AAPL buy nan 150", "quantity", 'found "nan"'),
        ("place_order", "1 AAPL buy 1_0 150", "quantity", 'found "1_0"'),
        ("place_order", "1 AAPL bye 100 150", "side", 'one of "buy", "sell", found "bye"'),
        ("get_symbols", "AAPL", "", "it takes none"),
    ],
)
def test_words_that_do_not_fit_are_refused_by_field(name: str, words: str, field: str, says: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        coerce(METHODS[name], words.split())
    assert caught.value.facts["field"] == field
    assert says in str(caught.value)


def test_a_misspelt_name_finds_its_nearest() -> None:
    assert nearest("get_ordrbook", METHODS) == "get_orderbook"
    assert nearest("GET_ORDERBOOK", METHODS) == "get_orderbook"
    assert nearest("zzz", METHODS) is None


def test_signatures_mark_what_may_be_left_out() -> None:
    assert METHODS["get_orderbook"].signature == "symbol [depth]"
    assert METHODS["get_symbols"].signature == ""
